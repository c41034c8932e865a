//! The words of a PDF, and the objects made of them.
//!
//! Forgiving on purpose: it is used to find what a more forgiving reader might find, so it
//! never stops at an error that others skip. It allocates no more than the text it reads, and
//! goes [`DEPTH_LIMIT`] deep.

use std::borrow::Cow;

/// How deep arrays and dictionaries may be nested. Documents stay below ten.
pub(super) const DEPTH_LIMIT: usize = 100;

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    DictOpen,
    DictClose,
    ArrayOpen,
    ArrayClose,
    Name(Cow<'a, [u8]>),
    Text,
    Int(i64),
    Real,
    Keyword(&'a [u8]),
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Dict(Dict<'a>),
    Array(Vec<Value<'a>>),
    Name(Cow<'a, [u8]>),
    Int(i64),
    /// A reference: the number of the object.
    Ref(i64),
    Null,
    Other,
}

/// A dictionary, in the order of the file. Keys may repeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Dict<'a>(pub Vec<(Cow<'a, [u8]>, Value<'a>)>);

/// Why no object could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The text is none, or ends in the middle.
    NoObject,
    /// Nested more than [`DEPTH_LIMIT`] deep.
    TooDeep,
}

impl<'a> Dict<'a> {
    /// Every value that stands under `key`.
    pub(super) fn all(&self, key: &'static [u8]) -> impl Iterator<Item = &Value<'a>> {
        self.0
            .iter()
            .filter(move |(name, _)| name.as_ref() == key)
            .map(|(_, value)| value)
    }

    /// The last value that stands under `key`.
    pub(super) fn last(&self, key: &'static [u8]) -> Option<&Value<'a>> {
        self.all(key).last()
    }

    /// Whether a value under `key` is one of these names.
    pub(super) fn names(&self, key: &'static [u8], names: &[&[u8]]) -> bool {
        self.all(key)
            .any(|value| matches!(value, Value::Name(name) if names.contains(&name.as_ref())))
    }

    /// Whether an integer stands under `key`.
    pub(super) fn int(&self, key: &'static [u8]) -> Option<i64> {
        match self.last(key)? {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }
}

/// Reads words, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How far it has read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let len = rest
            .iter()
            .position(|byte| !wanted(*byte))
            .unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// Goes on to the next word.
    pub(super) fn skip_blank(&mut self) {
        loop {
            self.take_while(is_space);
            if self.peek() != Some(b'%') {
                return;
            }
            self.take_while(|byte| !matches!(byte, b'\r' | b'\n'));
        }
    }

    /// The next word; `None` at the end.
    pub(super) fn next_token(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let first = self.peek()?;
        let double = self.bytes.get(self.at + 1) == Some(&first);
        Some(match first {
            b'<' if double => self.skip(2, Token::DictOpen),
            b'>' if double => self.skip(2, Token::DictClose),
            b'[' => self.skip(1, Token::ArrayOpen),
            b']' => self.skip(1, Token::ArrayClose),
            b'/' => {
                self.at += 1;
                Token::Name(unescape(self.take_while(is_regular)))
            }
            b'(' => self.literal(),
            b'<' => {
                self.take_while(|byte| byte != b'>');
                self.skip(1, Token::Text)
            }
            byte if is_regular(byte) => number_or_keyword(self.take_while(is_regular)),
            // A lone `>`, `)`, `{` or `}`.
            _ => {
                let word = &self.bytes[self.at..=self.at];
                self.skip(1, Token::Keyword(word))
            }
        })
    }

    fn skip(&mut self, bytes: usize, token: Token<'a>) -> Token<'a> {
        self.at = (self.at + bytes).min(self.bytes.len());
        token
    }

    fn literal(&mut self) -> Token<'a> {
        let mut open = 0_usize;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'\\' => self.at = (self.at + 1).min(self.bytes.len()),
                b'(' => open += 1,
                b')' => open -= 1,
                _ => {}
            }
            if open == 0 {
                break;
            }
        }
        Token::Text
    }

    /// The next object, telling every name in it to `see` as soon as it is read, whether or
    /// not the object turns out to be whole.
    pub(super) fn next_object(
        &mut self,
        see: &mut impl FnMut(&[u8]),
    ) -> Result<Value<'a>, Unreadable> {
        let token = self.next_token().ok_or(Unreadable::NoObject)?;
        self.object_from(token, see, 0)
    }

    fn object_from(
        &mut self,
        token: Token<'a>,
        see: &mut impl FnMut(&[u8]),
        depth: usize,
    ) -> Result<Value<'a>, Unreadable> {
        if depth > DEPTH_LIMIT {
            return Err(Unreadable::TooDeep);
        }
        Ok(match token {
            Token::DictOpen => Value::Dict(pair(self.sequence(&Token::DictClose, see, depth)?)),
            Token::ArrayOpen => Value::Array(self.sequence(&Token::ArrayClose, see, depth)?),
            Token::Name(name) => {
                see(&name);
                Value::Name(name)
            }
            Token::Int(number) => Value::Int(number),
            Token::Keyword(b"null") => Value::Null,
            Token::Text | Token::Real | Token::Keyword(_) => Value::Other,
            Token::DictClose | Token::ArrayClose => return Err(Unreadable::NoObject),
        })
    }

    fn sequence(
        &mut self,
        end: &Token<'a>,
        see: &mut impl FnMut(&[u8]),
        depth: usize,
    ) -> Result<Vec<Value<'a>>, Unreadable> {
        let mut values = Vec::new();
        loop {
            match self.next_token().ok_or(Unreadable::NoObject)? {
                token if token == *end => return Ok(values),
                Token::Keyword(b"R") => {
                    values.pop();
                    if let Some(Value::Int(number)) = values.pop() {
                        values.push(Value::Ref(number));
                    }
                }
                Token::DictClose | Token::ArrayClose => {}
                token => values.push(self.object_from(token, see, depth + 1)?),
            }
        }
    }
}

/// Keys and values by turns. What stands where a key should and is no name is skipped, as
/// other readers do.
fn pair(values: Vec<Value<'_>>) -> Dict<'_> {
    let mut dict = Dict::default();
    let mut key = None;
    for value in values {
        match (key.take(), value) {
            (Some(key), value) => dict.0.push((key, value)),
            (None, Value::Name(name)) => key = Some(name),
            (None, _) => {}
        }
    }
    dict
}

fn number_or_keyword(word: &[u8]) -> Token<'_> {
    let text = std::str::from_utf8(word).unwrap_or_default();
    if let Ok(number) = text.parse() {
        Token::Int(number)
    } else if text.parse::<f64>().is_ok() && !text.contains(|c: char| c.is_ascii_alphabetic()) {
        Token::Real
    } else {
        Token::Keyword(word)
    }
}

/// `/J#61vaScript` is `/JavaScript`.
fn unescape(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.contains(&b'#') {
        return Cow::Borrowed(name);
    }
    let hex = |byte: Option<&u8>| {
        byte.and_then(|byte| char::from(*byte).to_digit(16))
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut plain = Vec::with_capacity(name.len());
    let mut at = 0;
    while let Some(byte) = name.get(at) {
        match (byte, hex(name.get(at + 1)), hex(name.get(at + 2))) {
            (b'#', Some(high), Some(low)) => {
                plain.push(high << 4 | low);
                at += 3;
            }
            _ => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    Cow::Owned(plain)
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b'\0' | b'\t' | b'\n' | b'\x0C' | b'\r' | b' ')
}

fn is_regular(byte: u8) -> bool {
    !is_space(byte)
        && !matches!(
            byte,
            b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'{' | b'}' | b'/' | b'%'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(text: &[u8]) -> Vec<String> {
        let mut seen = Vec::new();
        let mut lexer = Lexer::new(text);
        let _ =
            lexer.next_object(&mut |name| seen.push(String::from_utf8_lossy(name).into_owned()));
        seen
    }

    #[test]
    fn names_are_found_however_they_are_written() {
        assert_eq!(names(b"<</S/J#61vaScript>>"), ["S", "JavaScript"]);
        assert_eq!(
            names(b"[1 0 R <</A(\\)/B)%/C\n/D<2F45>/F null>>]"),
            ["A", "D", "F"]
        );
        assert_eq!(names(b"<</Cut /JavaScript"), ["Cut", "JavaScript"]);
    }

    #[test]
    fn references_and_repeated_keys_are_kept() {
        let mut lexer = Lexer::new(b"<</A 5 0 R/A/B/C 7>>");
        let Ok(Value::Dict(dict)) = lexer.next_object(&mut |_| {}) else {
            panic!("a dictionary");
        };
        assert_eq!(dict.all(b"A").count(), 2);
        assert_eq!(dict.all(b"A").next(), Some(&Value::Ref(5)));
        assert_eq!(dict.int(b"C"), Some(7));
    }

    #[test]
    fn a_tower_of_arrays_ends_without_a_stack_overflow() {
        let tower = vec![b'['; 1_000_000];
        assert_eq!(
            Lexer::new(&tower).next_object(&mut |_| {}),
            Err(Unreadable::TooDeep)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut lexer = Lexer::new(&bytes);
            while lexer.next_object(&mut |_| {}).is_ok() {}
            prop_assert!(lexer.position() <= bytes.len());
        }

        #[test]
        fn no_words_panic(text in "[\\[\\]<>()/%# R0-9a-z\\\\\n.+-]{0,200}") {
            let mut lexer = Lexer::new(text.as_bytes());
            while lexer.next_object(&mut |_| {}).is_ok() {}
        }
    }
}
