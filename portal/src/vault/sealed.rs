//! The form in which a document lies on a disk.
//!
//! ```text
//! head   RKD1 ‖ nonce prefix (7) ‖ wrapped data key (RKW1 ‖ nonce 12 ‖ key 32 ‖ tag 16)
//! chunk  ciphertext of up to 256 KiB ‖ tag (16)      repeated; the last may be empty
//! ```
//! A data key seals one document. The nonce of a chunk is `prefix ‖ number (4) ‖ last (1)`
//! (the STREAM construction), and every chunk is authenticated together with the head and the
//! document's identifier. So no chunk can be left out, repeated, moved, or taken from
//! elsewhere; a document cannot end early, and cannot stand in another's place.
//!
//! Nothing of a document is given out before its last chunk was checked.

use aes_gcm::aead::{Aead, AeadInOut, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use zeroize::Zeroizing;

use super::keys::{self, EstablishmentKey, KEY_BYTES, NONCE_BYTES, TAG_BYTES};
use crate::ids::DocumentId;
use crate::keys::random_bytes;

/// How large a document may be.
pub const DOCUMENT_LIMIT_BYTES: usize = 256 * 1024 * 1024;
/// How large a sealed document can be, with what sealing adds.
pub(super) const SEALED_LIMIT_BYTES: u64 = DOCUMENT_LIMIT_BYTES as u64 + 1024 * 1024;

const KIND: [u8; 4] = *b"RKD1";
const WRAPPED_DATA_KEY: [u8; 4] = *b"RKW1";
const PREFIX_BYTES: usize = 7;
const WRAPPED_BYTES: usize = 4 + NONCE_BYTES + KEY_BYTES + TAG_BYTES;
const HEAD_BYTES: usize = 4 + PREFIX_BYTES + WRAPPED_BYTES;
const CHUNK_BYTES: usize = 256 * 1024;
const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// Why a document cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Larger than [`DOCUMENT_LIMIT_BYTES`].
    #[error("the document is too large")]
    TooLarge,
    /// Not a sealed document, or one of a version that this program does not know.
    #[error("not a sealed document")]
    UnknownKind,
    /// Sealed for another establishment or as another document.
    #[error("sealed under another key or as another document")]
    OtherKey,
    /// Changed, cut, or put together from parts.
    #[error("changed since it was sealed")]
    Changed,
}

/// Seals a document.
pub(super) fn seal(
    id: DocumentId,
    key: &EstablishmentKey,
    bytes: &[u8],
) -> Result<Vec<u8>, SealError> {
    if bytes.len() > DOCUMENT_LIMIT_BYTES {
        return Err(SealError::TooLarge);
    }
    let data_key = Zeroizing::new(random_bytes::<KEY_BYTES>());
    let prefix = random_bytes::<PREFIX_BYTES>();
    let wrapped = keys::wrap(
        WRAPPED_DATA_KEY,
        key.bytes(),
        id.as_uuid().as_bytes(),
        data_key.as_slice(),
    );
    let head = [&KIND[..], &prefix, &wrapped].concat();
    let aad = [&head, id.as_uuid().as_bytes().as_slice()].concat();
    let cipher = Aes256Gcm::new((&*data_key).into());

    let chunks = bytes.len().div_ceil(CHUNK_BYTES).max(1);
    let mut sealed = Vec::with_capacity(HEAD_BYTES + bytes.len() + chunks * TAG_BYTES);
    sealed.extend(&head);
    for number in 0..chunks {
        let start = number * CHUNK_BYTES;
        let end = (start + CHUNK_BYTES).min(bytes.len());
        let payload = Payload {
            msg: &bytes[start..end],
            aad: &aad,
        };
        let chunk = cipher
            .encrypt(&nonce(prefix, number, number + 1 == chunks), payload)
            .expect("a chunk is shorter than the 64 GiB of AES-GCM");
        sealed.extend(chunk);
    }
    Ok(sealed)
}

/// Opens a document, whole.
pub(super) fn open(
    id: DocumentId,
    key: &EstablishmentKey,
    sealed: &[u8],
) -> Result<Vec<u8>, SealError> {
    let (head, body) = sealed
        .split_at_checked(HEAD_BYTES)
        .ok_or(SealError::UnknownKind)?;
    let rest = head.strip_prefix(&KIND).ok_or(SealError::UnknownKind)?;
    let (prefix, wrapped) = rest
        .split_first_chunk::<PREFIX_BYTES>()
        .ok_or(SealError::UnknownKind)?;
    let opened = keys::unwrap(
        WRAPPED_DATA_KEY,
        key.bytes(),
        id.as_uuid().as_bytes(),
        wrapped,
    )
    .map_err(|_| SealError::OtherKey)?;
    let data_key: &[u8; KEY_BYTES] = opened
        .as_slice()
        .try_into()
        .map_err(|_| SealError::OtherKey)?;
    let aad = [head, id.as_uuid().as_bytes().as_slice()].concat();
    let cipher = Aes256Gcm::new(data_key.into());

    let chunks = body.len().div_ceil(SEALED_CHUNK_BYTES);
    if chunks == 0 {
        return Err(SealError::Changed);
    }
    let mut opened = Zeroizing::new(Vec::with_capacity(body.len()));
    for (number, chunk) in body.chunks(SEALED_CHUNK_BYTES).enumerate() {
        let mut chunk = Zeroizing::new(chunk.to_vec());
        cipher
            .decrypt_in_place(
                &nonce(*prefix, number, number + 1 == chunks),
                &aad,
                &mut *chunk,
            )
            .map_err(|_| SealError::Changed)?;
        opened.extend_from_slice(&chunk);
    }
    Ok(std::mem::take(&mut *opened))
}

fn nonce(
    prefix: [u8; PREFIX_BYTES],
    number: usize,
    last: bool,
) -> Nonce<aes_gcm::aead::consts::U12> {
    let number = u32::try_from(number).expect("256 MiB are a thousand chunks");
    let mut nonce = [0; NONCE_BYTES];
    nonce[..PREFIX_BYTES].copy_from_slice(&prefix);
    nonce[PREFIX_BYTES..NONCE_BYTES - 1].copy_from_slice(&number.to_be_bytes());
    nonce[NONCE_BYTES - 1] = u8::from(last);
    Nonce::from(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> EstablishmentKey {
        EstablishmentKey::generate()
    }

    fn document(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
    }

    #[test]
    fn documents_of_every_awkward_length_come_back() {
        let (id, key) = (DocumentId::new(), key());
        for len in [
            0,
            1,
            CHUNK_BYTES - 1,
            CHUNK_BYTES,
            CHUNK_BYTES + 1,
            3 * CHUNK_BYTES,
        ] {
            let bytes = document(len);
            let sealed = seal(id, &key, &bytes).unwrap();
            assert_eq!(open(id, &key, &sealed).unwrap(), bytes, "{len}");
        }
    }

    #[test]
    fn another_key_and_another_document_are_told_apart_from_damage() {
        let (id, own, other) = (DocumentId::new(), key(), key());
        let sealed = seal(id, &own, b"text").unwrap();
        assert!(matches!(
            open(id, &other, &sealed),
            Err(SealError::OtherKey)
        ));
        assert!(matches!(
            open(DocumentId::new(), &own, &sealed),
            Err(SealError::OtherKey)
        ));
        assert!(matches!(
            open(id, &own, b"%PDF-1.7"),
            Err(SealError::UnknownKind)
        ));
    }

    #[test]
    fn chunks_cannot_be_left_out_repeated_or_moved() {
        let (id, key) = (DocumentId::new(), key());
        let sealed = seal(id, &key, &document(3 * CHUNK_BYTES)).unwrap();
        let (head, body) = sealed.split_at(HEAD_BYTES);
        let chunks: Vec<&[u8]> = body.chunks(SEALED_CHUNK_BYTES).collect();
        for order in [
            &[0, 1][..],
            &[0],
            &[],
            &[1, 0, 2],
            &[0, 0, 2],
            &[0, 1, 2, 2],
            &[2],
            &[0, 2, 1],
        ] {
            let mut changed = head.to_vec();
            order.iter().for_each(|at| changed.extend(chunks[*at]));
            assert!(
                matches!(open(id, &key, &changed), Err(SealError::Changed)),
                "{order:?}"
            );
        }
    }

    #[test]
    fn a_chunk_of_the_same_document_sealed_again_does_not_fit() {
        let (id, key) = (DocumentId::new(), key());
        let bytes = document(2 * CHUNK_BYTES);
        let (one, two) = (
            seal(id, &key, &bytes).unwrap(),
            seal(id, &key, &bytes).unwrap(),
        );
        assert_ne!(one, two);
        let middle = HEAD_BYTES + SEALED_CHUNK_BYTES;
        let mixed = [&one[..middle], &two[middle..]].concat();
        assert!(matches!(open(id, &key, &mixed), Err(SealError::Changed)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn one_flipped_bit_or_one_cut_byte_is_noticed(
            len in prop_oneof![0usize..300, CHUNK_BYTES - 2..CHUNK_BYTES + 300],
            flip in any::<prop::sample::Index>(),
            cut in any::<prop::sample::Index>(),
            more in 1usize..40,
        ) {
            let (id, key) = (DocumentId::new(), key());
            let sealed = seal(id, &key, &document(len)).unwrap();
            let mut flipped = sealed.clone();
            let at = flip.index(sealed.len() * 8);
            flipped[at / 8] ^= 1 << (at % 8);
            prop_assert!(open(id, &key, &flipped).is_err());
            prop_assert!(open(id, &key, &sealed[..cut.index(sealed.len())]).is_err());
            let mut longer = sealed.clone();
            longer.extend(vec![0; more]);
            prop_assert!(open(id, &key, &longer).is_err());
        }
    }
}
