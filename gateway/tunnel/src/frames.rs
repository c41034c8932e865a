//! WireGuard datagrams in a byte stream, for networks that let no UDP pass.
//!
//! Each datagram stands behind its length, two bytes, big endian. That is all: the stream's
//! own protocol (TLS) keeps the order and says where it ends. Both ends use this file, so
//! that they cannot disagree. A length of zero, or of more than [`MAX_DATAGRAM_BYTES`], is no
//! frame of ours, and nothing behind it is believed.
//!
//! A burst is framed into one piece, so that it is one write. What is read is cut where its
//! last whole frame ends, without copying: one read gives many datagrams.

use bytes::{Bytes, BytesMut};

use crate::MAX_DATAGRAM_BYTES;

/// What stands in front of each datagram, in bytes.
pub const HEADER_BYTES: usize = 2;

/// Longest frame, in bytes.
pub const MAX_FRAME_BYTES: usize = HEADER_BYTES + MAX_DATAGRAM_BYTES;

/// Room that is offered to each read, in bytes. The largest TLS record fits.
pub const READ_BYTES: usize = 16 * 1024;

/// The stream holds something else than frames. It must be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes")]
pub struct NotAFrame {
    /// The length that it claims, in bytes.
    pub length: usize,
}

/// Frames a burst onto the end of `out`: `contents` is cut into datagrams of `segment_size`
/// bytes, the last of which may be shorter (see [`crate::Transmit`]).
///
/// Datagrams that no frame can hold are left out; neither end makes such.
pub fn write(out: &mut Vec<u8>, contents: &[u8], segment_size: usize) {
    let segment_size = segment_size.max(1);
    out.reserve(framed_bytes(contents.len(), segment_size));
    for datagram in contents.chunks(segment_size) {
        if datagram.len() > MAX_DATAGRAM_BYTES {
            continue;
        }
        let length = u16::try_from(datagram.len()).expect("checked against the largest datagram");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(datagram);
    }
}

/// How long a burst of `len` bytes is when it is framed.
pub fn framed_bytes(len: usize, segment_size: usize) -> usize {
    len + HEADER_BYTES * len.div_ceil(segment_size.max(1))
}

/// Whole datagrams, in the order in which they were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frames(Bytes);

impl Frames {
    /// The datagrams.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (header, behind) = rest.split_first_chunk()?;
            let (datagram, behind) =
                behind.split_at_checked(usize::from(u16::from_be_bytes(*header)))?;
            rest = behind;
            Some(datagram)
        })
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their length with all headers, in bytes.
    pub fn len_bytes(&self) -> usize {
        self.0.len()
    }
}

/// Cuts a byte stream into frames. Holds at most one read and an incomplete frame.
#[derive(Debug, Default)]
pub struct Decoder {
    memory: BytesMut,
}

impl Decoder {
    /// Makes one that begins with `first`: what was read beyond the request's end.
    pub fn new(first: &[u8]) -> Self {
        Self {
            memory: BytesMut::from(first),
        }
    }

    /// Where the next read appends its bytes; there is room for [`READ_BYTES`]. After each
    /// read, [`Self::take`] must be called.
    pub fn memory(&mut self) -> &mut BytesMut {
        self.memory.reserve(READ_BYTES);
        &mut self.memory
    }

    /// Takes the whole frames off the front of what was read.
    ///
    /// # Errors
    /// [`NotAFrame`] if what comes next cannot be one. The frames before it are lost with
    /// the stream, as datagrams may be.
    pub fn take(&mut self) -> Result<Frames, NotAFrame> {
        let mut whole = 0;
        while let Some(header) = self.memory[whole..].first_chunk() {
            let length = usize::from(u16::from_be_bytes(*header));
            if !(1..=MAX_DATAGRAM_BYTES).contains(&length) {
                return Err(NotAFrame { length });
            }
            let end = whole + HEADER_BYTES + length;
            if end > self.memory.len() {
                break;
            }
            whole = end;
        }
        Ok(Frames(self.memory.split_to(whole).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `stream` in `pieces` and returns the datagrams.
    fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, NotAFrame> {
        let mut decoder = Decoder::default();
        let mut datagrams = Vec::new();
        for piece in pieces {
            decoder.memory().extend_from_slice(piece);
            let frames = decoder.take()?;
            datagrams.extend(frames.datagrams().map(<[u8]>::to_vec));
            assert!(
                decoder.memory.len() < MAX_FRAME_BYTES,
                "no whole frame stays"
            );
        }
        Ok(datagrams)
    }

    #[test]
    fn a_burst_arrives_as_its_datagrams_wherever_the_stream_is_cut() {
        let burst: Vec<u8> = (0..=255).cycle().take(2500).collect();
        let mut stream = Vec::new();
        write(&mut stream, &burst, 1000);
        write(&mut stream, b"x", 1);
        assert_eq!(stream.len(), framed_bytes(2500, 1000) + framed_bytes(1, 1));
        let sent: Vec<&[u8]> = burst.chunks(1000).chain([&b"x"[..]]).collect();
        for cut in 0..=stream.len() {
            let (first, second) = stream.split_at(cut);
            assert_eq!(decode([first, second].into_iter()).unwrap(), sent, "{cut}");
        }
        assert_eq!(decode(stream.chunks(1)).unwrap(), sent);
    }

    #[test]
    fn what_was_read_with_the_request_comes_first() {
        let mut stream = Vec::new();
        write(&mut stream, b"firstsecond", 5);
        let mut decoder = Decoder::new(&stream[..9]);
        let first = decoder.take().unwrap();
        assert_eq!(first.datagrams().collect::<Vec<_>>(), [b"first"]);
        decoder.memory().extend_from_slice(&stream[9..]);
        let rest = decoder.take().unwrap();
        assert_eq!(rest.datagrams().collect::<Vec<_>>(), [&b"secon"[..], b"d"]);
    }

    #[test]
    fn a_length_that_no_datagram_has_ends_the_stream_before_more_is_read() {
        let longest = u16::try_from(MAX_DATAGRAM_BYTES).unwrap();
        for length in [0, longest + 1, u16::MAX] {
            let header = length.to_be_bytes();
            let refused = Err(NotAFrame {
                length: length.into(),
            });
            assert_eq!(decode([&header[..]].into_iter()), refused);
            let mut behind_a_good_one = Vec::new();
            write(&mut behind_a_good_one, b"good", 4);
            behind_a_good_one.extend_from_slice(&header);
            assert_eq!(decode([&behind_a_good_one[..]].into_iter()), refused);
        }
        let mut stream = Vec::new();
        write(&mut stream, &[7; MAX_DATAGRAM_BYTES], MAX_DATAGRAM_BYTES);
        assert_eq!(stream.len(), MAX_FRAME_BYTES);
        assert_eq!(decode([&stream[..]].into_iter()).unwrap().len(), 1);
    }

    #[test]
    fn an_overlong_datagram_is_left_out_and_its_neighbours_are_not() {
        let mut stream = Vec::new();
        write(&mut stream, b"before", 6);
        write(&mut stream, &[0; 70_000], 70_000);
        write(&mut stream, b"", 1200);
        write(&mut stream, b"after", 5);
        let sent = decode([&stream[..]].into_iter()).unwrap();
        assert_eq!(sent, [&b"before"[..], b"after"]);
    }

    proptest! {
        #[test]
        fn no_stream_makes_the_reader_panic_or_give_what_no_datagram_is(
            stream in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..5000),
            piece in 1usize..3000,
        ) {
            if let Ok(datagrams) = decode(stream.chunks(piece)) {
                let mut again = Vec::new();
                for datagram in &datagrams {
                    prop_assert!((1..=MAX_DATAGRAM_BYTES).contains(&datagram.len()));
                    write(&mut again, datagram, datagram.len());
                }
                prop_assert!(stream.starts_with(&again), "what was not sent");
            }
        }
    }
}
