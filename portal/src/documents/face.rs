//! The one typeface, and how wide and how long things become in it.
//!
//! BIZ UDGothic: made to be read by everybody, under the SIL Open Font License, with the
//! characters that Japanese names need (髙, 﨑, ①, ㈱). A character that it lacks is reported,
//! never drawn as a box.

use std::sync::LazyLock;

use krilla::text::Font;

/// The font file.
pub(crate) static FILE: &[u8] = include_bytes!("../../assets/fonts/BIZUDGothic-Regular.ttf");

static FACE: LazyLock<Face> = LazyLock::new(|| {
    let face = ttf_parser::Face::parse(FILE, 0).expect("the bundled font is sound");
    Face {
        units_per_em: f32::from(face.units_per_em()),
        face,
        font: Font::new(FILE.into(), 0).expect("the bundled font is sound"),
    }
});

/// The typeface.
pub(super) struct Face {
    units_per_em: f32,
    face: ttf_parser::Face<'static>,
    font: Font,
}

impl Face {
    pub(super) fn get() -> &'static Self {
        &FACE
    }

    pub(super) fn font(&self) -> Font {
        self.font.clone()
    }

    /// The first character of `text` that cannot be drawn.
    pub(super) fn missing(&self, text: &str) -> Option<char> {
        text.chars()
            .find(|c| self.face.glyph_index(*c).is_none_or(|glyph| glyph.0 == 0))
    }

    /// How wide `text` becomes, in points.
    pub(super) fn width(&self, text: &str, size: f32) -> f32 {
        text.chars().map(|c| self.char_width(c, size)).sum()
    }

    fn char_width(&self, c: char, size: f32) -> f32 {
        let glyph = self.face.glyph_index(c).unwrap_or_default();
        let advance = self.face.glyph_hor_advance(glyph).unwrap_or_default();
        f32::from(advance) * size / self.units_per_em
    }

    /// Breaks `text` into lines no wider than `width`. Japanese breaks anywhere but before a
    /// closing or after an opening mark; words of Latin letters and numbers stay whole where
    /// they fit.
    pub(super) fn wrap(&self, text: &str, size: f32, width: f32) -> Vec<String> {
        text.lines()
            .flat_map(|paragraph| self.wrap_paragraph(paragraph, size, width))
            .collect()
    }

    fn wrap_paragraph(&self, text: &str, size: f32, width: f32) -> Vec<String> {
        let chars: Vec<char> = text.chars().collect();
        let mut lines = Vec::new();
        let mut start = 0;
        while start < chars.len() {
            let mut end = start;
            let mut used = 0.0;
            while end < chars.len() {
                used += self.char_width(chars[end], size);
                if used > width && end > start {
                    break;
                }
                end += 1;
            }
            if end < chars.len() {
                let best = (start + 1..=end).rev().find(|at| may_break(&chars, *at));
                end = best.unwrap_or(end);
            }
            let line: String = chars[start..end].iter().collect();
            lines.push(line.trim_end().to_owned());
            start = end;
        }
        if lines.is_empty() {
            lines.push(String::new());
        }
        lines
    }
}

/// Whether a line may end before `chars[at]`.
fn may_break(chars: &[char], at: usize) -> bool {
    const NOT_AT_START: &str =
        "、。，．・：；？！」』）］｝】〕〉》ーぁぃぅぇぉっゃゅょァィゥェォッャュョ々,.:;?!)]}%";
    const NOT_AT_END: &str = "「『（［｛【〔〈《([{￥";
    let (before, after) = (chars[at - 1], chars[at]);
    let word =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ',' | '@' | '/');
    let kept_together = NOT_AT_START.contains(after)
        || NOT_AT_END.contains(before)
        || (word(before) && word(after));
    !kept_together
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_has_the_characters_of_japanese_names() {
        assert_eq!(
            Face::get().missing("髙橋 﨑山 ①㈱ 邉邊 吉田 德 ヴ 〜 －"),
            None
        );
        assert_eq!(Face::get().missing("山田\u{1F600}"), Some('\u{1F600}'));
    }

    #[test]
    fn lines_keep_within_their_width_and_do_not_begin_with_a_full_stop() {
        let face = Face::get();
        let text = "届書の内容を確認しましたので、次のとおり決定しました。詳しくは基金事務局（電話03-1234-5678）へ。";
        for width in [40.0, 73.0, 100.0, 151.0, 400.0] {
            let lines = face.wrap(text, 10.0, width);
            assert_eq!(lines.concat(), text);
            for line in &lines {
                assert!(face.width(line, 10.0) <= width, "{line}");
                assert!(!line.starts_with(['。', '、', '）']), "{line}");
                assert!(!line.ends_with('（'), "{line}");
            }
        }
        let number = face.wrap("電話 03-1234-5678", 10.0, 80.0);
        assert_eq!(number, ["電話", "03-1234-5678"]);
    }

    #[test]
    fn a_width_for_no_character_still_ends() {
        assert_eq!(Face::get().wrap("あいう", 10.0, 1.0).concat(), "あいう");
    }
}
