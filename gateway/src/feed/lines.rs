//! Cuts a stream of bytes into lines, none longer than the limit.

use bytes::{Bytes, BytesMut};
use protocol::control::FEED_LINE_LIMIT_BYTES;

/// Bytes of a line that is not complete yet.
#[derive(Debug)]
pub(super) struct Lines {
    rest: BytesMut,
    limit_bytes: usize,
}

/// A line that does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {limit_bytes} bytes")]
pub(super) struct LineTooLong {
    limit_bytes: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            rest: BytesMut::new(),
            limit_bytes: FEED_LINE_LIMIT_BYTES,
        }
    }
}

impl Lines {
    /// Takes what arrived and returns the lines that it completes, without their ends.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<Vec<Bytes>, LineTooLong> {
        let mut lines = Vec::new();
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            if self.rest.len() + piece.len() > self.limit_bytes + 1 {
                return Err(LineTooLong {
                    limit_bytes: self.limit_bytes,
                });
            }
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let mut line = self.rest.split();
                line.truncate(line.len() - 1);
                lines.push(line.freeze());
            }
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_however_they_arrive() {
        let text = b"one\ntwo\n\nthree\nrest";
        for cut in 1..text.len() {
            let mut lines = Lines::default();
            let mut out = Vec::new();
            for chunk in text.chunks(cut) {
                out.extend(lines.push(chunk).unwrap());
            }
            assert_eq!(out, ["one", "two", "", "three"], "chunks of {cut}");
        }
    }

    #[test]
    fn a_line_that_does_not_end_is_cut_off() {
        let mut lines = Lines {
            rest: BytesMut::new(),
            limit_bytes: 4,
        };
        assert_eq!(lines.push(b"1234\n").unwrap(), ["1234"]);
        assert_eq!(lines.push(b"12345").unwrap(), [""; 0]);
        assert!(lines.push(b"6").is_err());
        let mut lines = Lines {
            rest: BytesMut::new(),
            limit_bytes: 4,
        };
        assert!(lines.push(b"12345\n").is_err());
    }
}
