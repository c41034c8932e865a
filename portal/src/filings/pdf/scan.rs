//! Looks at every object of a PDF that any reader could reach, and says what it could do.
//!
//! A reader finds an object through a table of places, and a file may have several tables,
//! wrong tables, or none. So no table is believed here: wherever the word `obj` stands, in
//! comments, strings and streams too, an object may begin, and is read. Object streams are
//! unpacked and read both by their own list of places and from end to end.
//!
//! Every byte that is read, again or not, is paid for out of an allowance, so that no file
//! costs more than a few times its size, however it is built.

use std::collections::BTreeSet;

use super::PdfError;
use super::lexer::{Dict, Lexer, Unreadable, Value};
use super::pages::PageTree;
use super::streams::{
    self, Keep, PICTURE_LIMIT_POINTS, TOTAL_FREE_BYTES, TOTAL_LIMIT_BYTES, TOTAL_LIMIT_TIMES,
};

/// How much may be read again and again, in multiples of the file, before it is given up.
const READ_LIMIT_TIMES: usize = 4;
/// What may be read in any case.
const READ_FREE_BYTES: usize = 16 * 1024 * 1024;
/// How many streams a file may have: a thousand pages with fifty each.
const STREAM_LIMIT: usize = 50_000;
/// How many objects one object stream may list.
const OBJECT_LIMIT: i64 = 100_000;

const TOO_COMPLEX: PdfError = PdfError::Uninspectable("too much to read");

/// What a filing has no need of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Active {
    /// A program.
    JavaScript,
    /// Starting another program.
    Launch,
    /// Something that happens by itself.
    AutomaticAction,
    /// A file inside the file.
    EmbeddedFile,
    /// Going to another file.
    RemoteFile,
    /// Sending or fetching form data.
    FormData,
    /// A form that is a program (XFA).
    Xfa,
    /// Films, sounds, three-dimensional models.
    Media,
}

impl Active {
    /// What it is called in a message.
    pub fn name(self) -> &'static str {
        match self {
            Self::JavaScript => "JavaScript（プログラム）",
            Self::Launch => "別のプログラムの起動",
            Self::AutomaticAction => "自動で動く操作",
            Self::EmbeddedFile => "添付ファイル",
            Self::RemoteFile => "別のファイルへのリンク",
            Self::FormData => "フォームデータの送信・取り込み",
            Self::Xfa => "XFAフォーム",
            Self::Media => "動画・音声・3D",
        }
    }

    /// What a name gives away wherever it stands: these words serve for nothing else.
    fn from_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"JavaScript" => Self::JavaScript,
            b"Launch" => Self::Launch,
            b"EmbeddedFile" | b"EmbeddedFiles" | b"FileAttachment" => Self::EmbeddedFile,
            b"GoToR" | b"GoToE" => Self::RemoteFile,
            b"SubmitForm" | b"ImportData" => Self::FormData,
            b"XFA" => Self::Xfa,
            b"RichMedia" | b"RichMediaExecute" | b"RichMediaContent" | b"GoTo3DView"
            | b"Rendition" => Self::Media,
            _ => return None,
        })
    }
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The file has a password or a restriction of its own.
    pub encrypted: bool,
    /// What the file could do.
    pub active: BTreeSet<Active>,
    /// How many pages it has.
    pub pages: usize,
}

/// Reads the whole file.
pub(super) fn scan(bytes: &[u8]) -> Result<Found, PdfError> {
    let mut scan = Scan {
        found: Found::default(),
        read_left: bytes.len() * READ_LIMIT_TIMES + READ_FREE_BYTES,
        unpack_left: (bytes.len() as u64)
            .saturating_mul(TOTAL_LIMIT_TIMES)
            .saturating_add(TOTAL_FREE_BYTES)
            .min(TOTAL_LIMIT_BYTES),
        tree: PageTree::default(),
        suspects: Vec::new(),
        streams_at: BTreeSet::new(),
        resources: BTreeSet::new(),
    };
    // Where object headers and trailers end.
    for at in memchr::memmem::find_iter(bytes, b"obj") {
        if !bytes[..at].ends_with(b"end") {
            scan.object_at(bytes, at + 3, number_before(bytes, at))?;
        }
    }
    for at in memchr::memmem::find_iter(bytes, b"trailer") {
        scan.trailer_at(bytes, at + 7)?;
    }
    for at in memchr::memmem::find_iter(bytes, b"stream") {
        scan.lone_stream_at(bytes, at)?;
    }
    let Scan {
        mut found,
        suspects,
        resources,
        tree,
        ..
    } = scan;
    found.pages = tree.count();
    found.active.extend(
        suspects
            .into_iter()
            .filter(|(_, target)| !resources.contains(target))
            .map(|(active, _)| active),
    );
    Ok(found)
}

struct Scan {
    found: Found,
    read_left: usize,
    unpack_left: u64,
    tree: PageTree,
    /// Short words that also serve as names of fonts: what they would mean, and the object
    /// that they point to.
    suspects: Vec<(Active, i64)>,
    /// Where the data of those streams begins that were already unpacked.
    streams_at: BTreeSet<usize>,
    /// Objects that say of themselves that they are fonts, pictures and the like.
    resources: BTreeSet<i64>,
}

impl Scan {
    fn read(&mut self, bytes: usize) -> Result<(), PdfError> {
        self.read_left = self.read_left.checked_sub(bytes).ok_or(TOO_COMPLEX)?;
        Ok(())
    }

    /// The object that begins at `at`, and the stream after it.
    fn object_at(&mut self, bytes: &[u8], at: usize, number: Option<i64>) -> Result<(), PdfError> {
        let mut lexer = Lexer::new(&bytes[at..]);
        let Some(Value::Dict(dict)) = self.next_value(&mut lexer)? else {
            return Ok(());
        };
        if let Some(number) = number {
            self.see_object(number, &dict);
        }
        let value_end = lexer.position();
        lexer.skip_blank();
        self.read(lexer.position() - value_end)?;
        let Some(data_at) = data_begins(bytes, at + lexer.position()) else {
            return Ok(());
        };
        if dict.names(b"Type", &[b"XRef"]) {
            self.tree.see_trailer(&dict);
        }
        let data = self.data_at(bytes, data_at)?;
        self.stream(&dict, data)
    }

    fn trailer_at(&mut self, bytes: &[u8], at: usize) -> Result<(), PdfError> {
        if let Some(Value::Dict(dict)) = self.next_value(&mut Lexer::new(&bytes[at..]))? {
            self.tree.see_trailer(&dict);
        }
        Ok(())
    }

    fn see_object(&mut self, number: i64, dict: &Dict<'_>) {
        self.tree.see_object(number, dict);
        if dict.names(b"Type", &[b"Font", b"XObject", b"ExtGState", b"Pattern"]) {
            self.resources.insert(number);
        }
    }

    /// The data that begins at `at`, up to the word `endstream`.
    fn data_at<'a>(&mut self, bytes: &'a [u8], at: usize) -> Result<&'a [u8], PdfError> {
        self.streams_at.insert(at);
        if self.streams_at.len() > STREAM_LIMIT {
            return Err(TOO_COMPLEX);
        }
        let data = &bytes[at..];
        let end = memchr::memmem::find(data, b"endstream").unwrap_or(data.len());
        self.read(end)?;
        Ok(&data[..end])
    }

    /// The word `stream` after a dictionary that no `obj` introduces: some readers take it.
    fn lone_stream_at(&mut self, bytes: &[u8], at: usize) -> Result<(), PdfError> {
        if bytes[..at].ends_with(b"end") {
            return Ok(());
        }
        let after_dict = bytes[..at].trim_ascii_end().ends_with(b">>");
        let Some(data_at) = data_begins(bytes, at).filter(|_| after_dict) else {
            return Ok(());
        };
        if self.streams_at.contains(&data_at) {
            return Ok(());
        }
        let data = self.data_at(bytes, data_at)?;
        const WRITTEN_AS_PACKED: &[u8] = b"<</Filter/FlateDecode>>";
        let mut lexer = Lexer::new(WRITTEN_AS_PACKED);
        if let Some(Value::Dict(dict)) = self.next_value(&mut lexer)? {
            self.unpack(&dict, data, Keep::Size)?;
        }
        Ok(())
    }

    fn next_value<'a>(&mut self, lexer: &mut Lexer<'a>) -> Result<Option<Value<'a>>, PdfError> {
        let start = lexer.position();
        let mut seen = BTreeSet::new();
        let value = lexer.next_object(&mut |name| seen.extend(Active::from_name(name)));
        self.read(lexer.position() - start)?;
        self.found.active.extend(seen);
        match value {
            Ok(value) => {
                self.look_at(&value);
                Ok(Some(value))
            }
            Err(Unreadable::NoObject) => Ok(None),
            Err(Unreadable::TooDeep) => Err(PdfError::Uninspectable("nested too deep")),
        }
    }

    fn look_at(&mut self, value: &Value<'_>) {
        match value {
            Value::Dict(dict) => {
                self.look_at_dict(dict);
                dict.0.iter().for_each(|(_, value)| self.look_at(value));
            }
            Value::Array(values) => values.iter().for_each(|value| self.look_at(value)),
            Value::Name(_) | Value::Int(_) | Value::Ref(_) | Value::Null | Value::Other => {}
        }
    }

    fn look_at_dict(&mut self, dict: &Dict<'_>) {
        for (key, value) in &dict.0 {
            let active = match key.as_ref() {
                b"Encrypt" if *value != Value::Null => {
                    self.found.encrypted = true;
                    continue;
                }
                b"JS" => Active::JavaScript,
                b"AA" => Active::AutomaticAction,
                b"EF" => Active::EmbeddedFile,
                _ => continue,
            };
            match value {
                Value::Null | Value::Name(_) | Value::Int(_) => {}
                Value::Ref(target) => self.suspects.push((active, *target)),
                Value::Dict(_) | Value::Array(_) | Value::Other => {
                    self.found.active.insert(active);
                }
            }
        }
        if dict.names(b"Subtype", &[b"3D", b"Movie", b"Sound", b"Screen"])
            || dict.names(b"S", &[b"Movie", b"Sound"])
        {
            self.found.active.insert(Active::Media);
        }
    }

    fn stream(&mut self, dict: &Dict<'_>, data: &[u8]) -> Result<(), PdfError> {
        if dict
            .all(b"F")
            .any(|value| matches!(value, Value::Other | Value::Dict(_)))
        {
            self.found.active.insert(Active::RemoteFile);
        }
        if dict.names(b"Subtype", &[b"Image"]) {
            let side = |key| dict.int(key).unwrap_or_default();
            let points = side(b"Width").saturating_mul(side(b"Height"));
            if points > PICTURE_LIMIT_POINTS {
                return Err(PdfError::Uninspectable("a picture with too many points"));
            }
        }
        let listed = dict.int(b"N").zip(dict.int(b"First"));
        if listed.is_none() && !dict.names(b"Type", &[b"ObjStm"]) {
            self.unpack(dict, data, Keep::Size)?;
            return Ok(());
        }
        if predicts(dict) {
            return Err(PdfError::Uninspectable("an object stream with a predictor"));
        }
        let content = self.unpack(dict, data, Keep::Content)?;
        let mut whole = Lexer::new(&content);
        while whole.position() < content.len() {
            let before = whole.position();
            self.next_value(&mut whole)?;
            if whole.position() == before {
                break;
            }
        }
        self.listed_objects(&content, listed)
    }

    /// The objects of an object stream, by its own list of places.
    fn listed_objects(
        &mut self,
        content: &[u8],
        listed: Option<(i64, i64)>,
    ) -> Result<(), PdfError> {
        let (count, first) = listed.unwrap_or_default();
        if count > OBJECT_LIMIT {
            return Err(TOO_COMPLEX);
        }
        let mut list = Lexer::new(content);
        for _ in 0..count {
            let (Some(Value::Int(number)), Some(Value::Int(place))) =
                (self.next_value(&mut list)?, self.next_value(&mut list)?)
            else {
                break;
            };
            let at = first
                .checked_add(place)
                .and_then(|at| usize::try_from(at).ok());
            let Some(object) = at.and_then(|at| content.get(at..)) else {
                continue;
            };
            if let Some(Value::Dict(dict)) = self.next_value(&mut Lexer::new(object))? {
                self.see_object(number, &dict);
            }
        }
        Ok(())
    }

    fn unpack(&mut self, dict: &Dict<'_>, data: &[u8], keep: Keep) -> Result<Vec<u8>, PdfError> {
        let unpacked = streams::unpack(dict, data, keep)?;
        self.unpack_left = self
            .unpack_left
            .checked_sub(unpacked.size_bytes)
            .ok_or(PdfError::Uninspectable("the streams unpack to too much"))?;
        Ok(unpacked.content)
    }
}

fn predicts(dict: &Dict<'_>) -> bool {
    let none = |value: &Value<'_>| match value {
        Value::Dict(parms) => matches!(parms.int(b"Predictor"), None | Some(1)),
        Value::Null => true,
        _ => false,
    };
    !dict
        .all(b"DecodeParms")
        .chain(dict.all(b"DP"))
        .all(|value| match value {
            Value::Array(values) => values.iter().all(none),
            value => none(value),
        })
}

/// Where the data of a stream begins, if the word `stream` stands at `at`.
fn data_begins(bytes: &[u8], at: usize) -> Option<usize> {
    let data = bytes.get(at..)?.strip_prefix(b"stream")?;
    let line_end = [&b"\r\n"[..], b"\n", b"\r"]
        .into_iter()
        .find(|line_end| data.starts_with(line_end));
    Some(bytes.len() - data.len() + line_end.map_or(0, <[u8]>::len))
}

/// The object's number, of the two numbers before the word `obj`.
fn number_before(bytes: &[u8], at: usize) -> Option<i64> {
    const REACH_BYTES: usize = 40;
    let before = &bytes[at.saturating_sub(REACH_BYTES)..at];
    let mut words = before.rsplit(|byte| !byte.is_ascii_digit());
    let mut number = || words.find(|word| !word.is_empty());
    let _generation = number()?;
    std::str::from_utf8(number()?).ok()?.parse().ok()
}
