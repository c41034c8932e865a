//! Amounts of yen, as people read them.

/// `1,234,567`; what is less than nothing begins with `-`.
pub fn yen_text(yen: i64) -> String {
    let digits = yen.unsigned_abs().to_string();
    let mut text = String::from(if yen < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_grouped_by_three() {
        for (yen, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (670_154_400, "670,154,400"),
            (-2_400, "-2,400"),
            (i64::MIN, "-9,223,372,036,854,775,808"),
        ] {
            assert_eq!(yen_text(yen), text);
        }
    }
}
