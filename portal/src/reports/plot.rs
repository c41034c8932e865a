//! Small plots as SVG, made on the server: columns side by side, one group for each month.
//!
//! A picture has a title and a description for those who do not see it, and its figures stand in
//! a table beneath. Colours come from the style sheet; nothing in it runs or loads.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 32.0;
/// Horizontal lines above the axis.
const LINES: u32 = 4;
/// Labels under the axis at most.
const LABELS: usize = 12;

/// One sort of column.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What the columns are.
    pub name: &'static str,
    /// One for each group.
    pub values: Vec<f64>,
}

/// Draws columns. `id` is the picture's in its page.
pub fn columns(
    id: &str,
    title: &str,
    description: &str,
    groups: &[String],
    series: &[Series],
) -> String {
    let mut svg = format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-labelledby=\"{id}-title {id}-desc\">\
         <title id=\"{id}-title\">{}</title><desc id=\"{id}-desc\">{}</desc>",
        escaped(title),
        escaped(description)
    );
    let most = series
        .iter()
        .flat_map(|series| &series.values)
        .copied()
        .filter(|value| value.is_finite())
        .fold(0.0, f64::max);
    let top = round_up(most);
    let height = HEIGHT - TOP - BOTTOM;
    let y = |value: f64| TOP + height * (1.0 - (value / top).clamp(0.0, 1.0));
    for line in 0..=LINES {
        let value = top * f64::from(line) / f64::from(LINES);
        let y = y(value);
        // Writing to a String cannot fail.
        let _ = write!(
            svg,
            "<line class=\"plot__line\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"plot__text\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            number(value)
        );
    }
    let count = groups.len().max(1);
    let step = (WIDTH - LEFT) / count as f64;
    let wide = (step * 0.8 / series.len().max(1) as f64).min(40.0);
    let every = count.div_ceil(LABELS);
    for (index, group) in groups.iter().enumerate() {
        let middle = LEFT + step * (index as f64 + 0.5);
        let first = middle - wide * series.len() as f64 / 2.0;
        for (place, series_) in series.iter().enumerate() {
            let value = series_.values.get(index).copied();
            let value = value.filter(|value| value.is_finite()).unwrap_or_default();
            let (x, y) = (first + wide * place as f64, y(value));
            let _ = write!(
                svg,
                "<rect class=\"plot__bar plot__bar--{place}\" x=\"{x:.1}\" y=\"{y:.1}\" \
                 width=\"{:.1}\" height=\"{:.1}\"/>",
                wide * 0.9,
                TOP + height - y
            );
        }
        if index % every == 0 {
            let _ = write!(
                svg,
                "<text class=\"plot__text\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                HEIGHT - 10.0,
                escaped(group)
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

/// The next 1, 2 or 5 with zeros, times [`LINES`] at least: lines stand at plain numbers.
fn round_up(most: f64) -> f64 {
    let part = (most / f64::from(LINES)).max(f64::MIN_POSITIVE);
    let ten = 10.0_f64.powf(part.log10().floor().clamp(-2.0, 12.0));
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|factor| part <= factor * ten)
        .unwrap_or(10.0);
    if most <= 0.0 {
        return f64::from(LINES);
    }
    factor * ten * f64::from(LINES)
}

fn number(value: f64) -> String {
    if (value - value.round()).abs() < 1e-9 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}").trim_end_matches('0').to_owned()
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(values: Vec<f64>) -> String {
        let groups: Vec<String> = (1..=values.len()).map(|n| format!("<{n}>")).collect();
        let series = [Series {
            name: "届出",
            values,
        }];
        columns("p", "件数 & 月", "説明", &groups, &series)
    }

    #[test]
    fn a_column_is_as_high_as_its_value() {
        let svg = draw(vec![20.0, 10.0, 0.0]);
        // 220 - 12 - 32 = 176 for 20, which is a round top.
        assert!(svg.contains("height=\"176.0\""), "{svg}");
        assert!(svg.contains("height=\"88.0\"") && svg.contains("height=\"0.0\""));
        assert!(svg.contains(">20<") && svg.contains(">5<"));
    }

    #[test]
    fn it_says_what_it_shows_and_holds_no_markup_of_others() {
        let svg = draw(vec![1.0]);
        assert!(svg.contains("<title id=\"p-title\">件数 &amp; 月</title>"));
        assert!(svg.contains("aria-labelledby=\"p-title p-desc\""));
        assert!(svg.contains("&lt;1&gt;") && !svg.contains("style="));
    }

    #[test]
    fn odd_values_draw_something_finite() {
        for values in [
            vec![],
            vec![0.0],
            vec![f64::NAN],
            vec![f64::INFINITY],
            vec![1e300],
        ] {
            let svg = draw(values.clone());
            assert!(
                !svg.contains("NaN") && !svg.contains("inf"),
                "{values:?}: {svg}"
            );
            assert!(svg.ends_with("</svg>"));
        }
        assert_eq!(round_up(17.0), 20.0);
        assert_eq!(round_up(21.0), 40.0);
        assert_eq!(round_up(0.3), 0.4);
    }
}
