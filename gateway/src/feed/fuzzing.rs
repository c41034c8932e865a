//! The fuzzer's way to the reader of the feed.

use protocol::control::FeedLine;

use super::lines::Lines;

/// What comes over the feed, in chunks: the first byte says how long each is. Lines are the
/// same however they arrive.
pub fn feed_lines(data: &[u8]) {
    let Some((first, text)) = data.split_first() else {
        return;
    };
    let mut lines = Lines::default();
    let mut found = Vec::new();
    for chunk in text.chunks(usize::from(*first).max(1)) {
        found.extend(lines.push(chunk).expect("the input is far under the limit"));
    }
    let whole = text.split(|byte| *byte == b'\n');
    let whole: Vec<&[u8]> = whole.collect();
    // What stands after the last end of a line is no line yet.
    assert_eq!(found, whole[..whole.len() - 1]);
    for line in found {
        // Anything else than a line of ours ends the connection.
        let _ = serde_json::from_slice::<FeedLine>(&line);
    }
}
