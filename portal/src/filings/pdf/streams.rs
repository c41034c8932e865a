//! What a stream unpacks to: the content where it must be read, else only its size.
//!
//! Nothing here keeps more than [`INSPECT_LIMIT_BYTES`], whatever a stream claims to hold.

use flate2::{Decompress, FlushDecompress, Status};

use super::PdfError;
use super::lexer::{Dict, Value, is_space};

/// How large one stream may be when unpacked: a page scanned at 600 dpi in full colour.
pub(super) const STREAM_LIMIT_BYTES: u64 = 128 * 1024 * 1024;
/// How large all streams of a file may be together when unpacked: this much at most,
pub(super) const TOTAL_LIMIT_BYTES: u64 = 768 * 1024 * 1024;
/// this much in any case,
pub(super) const TOTAL_FREE_BYTES: u64 = 128 * 1024 * 1024;
/// and between the two so many times the size of the file.
pub(super) const TOTAL_LIMIT_TIMES: u64 = 100;
/// How large one object stream may be when unpacked.
pub(super) const INSPECT_LIMIT_BYTES: u64 = 16 * 1024 * 1024;
/// How many points one picture may have: A3 at 600 dpi.
pub(super) const PICTURE_LIMIT_POINTS: i64 = 80_000_000;

const TOO_LARGE: PdfError = PdfError::Uninspectable("a stream unpacks to too much");
const ODD_FILTERS: PdfError = PdfError::Uninspectable("an unusual chain of filters");

/// Whether the bytes are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// They are to be read.
    Content,
    /// Only the size matters.
    Size,
}

/// A stream, unpacked.
pub(super) struct Unpacked {
    /// Its size.
    pub size_bytes: u64,
    /// Its content, if it was asked for.
    pub content: Vec<u8>,
}

enum Filter {
    Flate,
    Lzw { early: bool },
    RunLength,
    Ascii85,
    AsciiHex,
    Picture,
    Unknown,
}

/// Unpacks `data`, the bytes between `stream` and `endstream`.
pub(super) fn unpack(dict: &Dict<'_>, data: &[u8], keep: Keep) -> Result<Unpacked, PdfError> {
    let mut filters = filters(dict)?;
    // Text armour comes first and never grows.
    let armour = filters
        .iter()
        .take_while(|filter| matches!(filter, Filter::Ascii85 | Filter::AsciiHex))
        .count();
    if armour > 2 {
        return Err(ODD_FILTERS);
    }
    let mut plain = None;
    for filter in filters.drain(..armour) {
        let bytes = plain.as_deref().unwrap_or(data);
        plain = Some(match filter {
            Filter::Ascii85 => from_ascii85(bytes),
            _ => from_hex(bytes),
        });
    }
    let data = plain.as_deref().unwrap_or(data);
    let mut sink = Sink::new(keep);
    match filters.as_slice() {
        [] => sink.take(data)?,
        [Filter::Flate] => inflate(data, &mut sink)?,
        [Filter::Lzw { early }] => count_lzw(data, *early, &mut sink)?,
        [Filter::RunLength] => run_lengths(data, &mut sink)?,
        // A picture's own packing is undone by whoever draws it; its size stands in the
        // dictionary. Here counts what is wrapped around it.
        [Filter::Picture] => sink.size_bytes = data.len() as u64,
        [Filter::Flate, Filter::Picture] => inflate(data, &mut sink)?,
        [Filter::RunLength, Filter::Picture] => run_lengths(data, &mut sink)?,
        _ => return Err(ODD_FILTERS),
    }
    if keep == Keep::Content && !matches!(filters.as_slice(), [] | [Filter::Flate]) {
        return Err(ODD_FILTERS);
    }
    Ok(Unpacked {
        size_bytes: sink.size_bytes,
        content: sink.content,
    })
}

fn filters(dict: &Dict<'_>) -> Result<Vec<Filter>, PdfError> {
    let mut filters = Vec::new();
    let early = !format!("{:?}", dict.last(b"DecodeParms")).contains("EarlyChange");
    for value in dict.all(b"Filter") {
        match value {
            Value::Name(name) => filters.push(filter(name, early)),
            Value::Array(values) => {
                for value in values {
                    match value {
                        Value::Name(name) => filters.push(filter(name, early)),
                        _ => return Err(ODD_FILTERS),
                    }
                }
            }
            Value::Null => {}
            _ => return Err(ODD_FILTERS),
        }
    }
    Ok(filters)
}

fn filter(name: &[u8], early: bool) -> Filter {
    match name {
        b"FlateDecode" | b"Fl" => Filter::Flate,
        b"LZWDecode" | b"LZW" => Filter::Lzw { early },
        b"RunLengthDecode" | b"RL" => Filter::RunLength,
        b"ASCII85Decode" | b"A85" => Filter::Ascii85,
        b"ASCIIHexDecode" | b"AHx" => Filter::AsciiHex,
        b"DCTDecode" | b"DCT" | b"JPXDecode" | b"JBIG2Decode" | b"CCITTFaxDecode" | b"CCF" => {
            Filter::Picture
        }
        _ => Filter::Unknown,
    }
}

struct Sink {
    keep: Keep,
    limit_bytes: u64,
    size_bytes: u64,
    content: Vec<u8>,
}

impl Sink {
    fn new(keep: Keep) -> Self {
        Self {
            keep,
            limit_bytes: match keep {
                Keep::Content => INSPECT_LIMIT_BYTES,
                Keep::Size => STREAM_LIMIT_BYTES,
            },
            size_bytes: 0,
            content: Vec::new(),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), PdfError> {
        self.count(bytes.len() as u64)?;
        if self.keep == Keep::Content {
            self.content.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn count(&mut self, bytes: u64) -> Result<(), PdfError> {
        self.size_bytes += bytes;
        if self.size_bytes > self.limit_bytes {
            return Err(TOO_LARGE);
        }
        Ok(())
    }
}

/// Unpacks until the end or the first error. Readers show what came before an error, so an
/// error is none here.
fn inflate(data: &[u8], sink: &mut Sink) -> Result<(), PdfError> {
    const STEP_BYTES: usize = 64 * 1024;
    let blank = data.iter().take_while(|byte| is_space(**byte)).count();
    let data = &data[blank.min(2)..];
    let has_header = match data {
        [cmf, flg, ..] => {
            cmf & 0x0F == 8 && (u16::from(*cmf) << 8 | u16::from(*flg)).is_multiple_of(31)
        }
        _ => return Ok(()),
    };
    let mut inflater = Decompress::new(has_header);
    let mut step = vec![0; STEP_BYTES];
    loop {
        let (read, made) = (inflater.total_in(), inflater.total_out());
        let rest = usize::try_from(read).ok().and_then(|at| data.get(at..));
        let status =
            inflater.decompress(rest.unwrap_or_default(), &mut step, FlushDecompress::None);
        let new = usize::try_from(inflater.total_out() - made).unwrap_or(STEP_BYTES);
        sink.take(&step[..new])?;
        match status {
            Ok(Status::StreamEnd) | Err(_) => return Ok(()),
            Ok(_) if inflater.total_in() == read && new == 0 => return Ok(()),
            Ok(_) => {}
        }
    }
}

/// The size of an LZW stream. Each code stands for a text one longer than that of the code
/// before it, so lengths are all there is to keep.
fn count_lzw(data: &[u8], early: bool, sink: &mut Sink) -> Result<(), PdfError> {
    const CLEAR: usize = 256;
    const END: usize = 257;
    const TABLE: usize = 4096;
    let mut lengths: Vec<u64> = vec![1; 258];
    let mut before: Option<u64> = None;
    let (mut bits, mut have) = (0_u32, 0_u32);
    for byte in data {
        bits = bits << 8 | u32::from(*byte);
        have += 8;
        let ahead = lengths.len() + usize::from(early);
        let width = match ahead {
            0..=511 => 9,
            512..=1023 => 10,
            1024..=2047 => 11,
            _ => 12,
        };
        if have < width {
            continue;
        }
        have -= width;
        let code = (bits >> have & ((1 << width) - 1)) as usize;
        match code {
            CLEAR => {
                lengths.truncate(258);
                before = None;
            }
            END => return Ok(()),
            _ => {
                let Some(length) = lengths.get(code).copied().or(before
                    .filter(|_| code == lengths.len())
                    .map(|length| length + 1))
                else {
                    return Ok(());
                };
                sink.count(length)?;
                if let Some(before) = before
                    && lengths.len() < TABLE
                {
                    lengths.push(before + 1);
                }
                before = Some(length);
            }
        }
    }
    Ok(())
}

fn run_lengths(data: &[u8], sink: &mut Sink) -> Result<(), PdfError> {
    let mut at = 0;
    while let Some(length) = data.get(at).copied() {
        match length {
            128 => break,
            0..=127 => {
                sink.count(u64::from(length) + 1)?;
                at += usize::from(length) + 2;
            }
            129..=255 => {
                sink.count(257 - u64::from(length))?;
                at += 2;
            }
        }
    }
    Ok(())
}

fn from_ascii85(data: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(data.len());
    let (mut group, mut digits) = (0_u32, 0);
    for byte in data {
        match byte {
            b'~' => break,
            b'z' if digits == 0 => plain.extend([0; 4]),
            b'!'..=b'u' => {
                group = group.wrapping_mul(85).wrapping_add(u32::from(byte - b'!'));
                digits += 1;
                if digits == 5 {
                    plain.extend(group.to_be_bytes());
                    (group, digits) = (0, 0);
                }
            }
            _ => {}
        }
    }
    if digits > 1 {
        for _ in digits..5 {
            group = group.wrapping_mul(85).wrapping_add(84);
        }
        plain.extend(&group.to_be_bytes()[..digits - 1]);
    }
    plain
}

fn from_hex(data: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = data
        .iter()
        .take_while(|byte| **byte != b'>')
        .filter_map(|byte| char::from(*byte).to_digit(16))
        .filter_map(|digit| u8::try_from(digit).ok())
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or_default())
        .collect()
}
