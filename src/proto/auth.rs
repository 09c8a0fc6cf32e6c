//! Authentication: the first bytes inside TLS, which nothing answers.
//!
//! ```text
//!  0                     32                          34
//! +---------------------+---------------------------+----------------------------+
//! | sha256(password)    | padding0 length, u16 b.e. | padding0, zero bytes       |
//! +---------------------+---------------------------+----------------------------+
//! ```

use std::fmt;
use std::hint;

use sha2::{Digest, Sha256};

const HASH_BYTES: usize = 32;
/// The bytes of the block before padding0.
pub const HEADER_BYTES: usize = HASH_BYTES + 2;

/// What stands for the password on the wire: whoever has it can use the server.
///
/// Comparing two takes the same time wherever they differ.
#[derive(Clone)]
pub struct PasswordHash([u8; HASH_BYTES]);

impl PasswordHash {
    /// Hashes a password as the protocol does: once, without salt.
    pub fn of(password: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(password).into())
    }
}

impl PartialEq for PasswordHash {
    fn eq(&self, other: &Self) -> bool {
        let difference = self.0.iter().zip(&other.0).fold(0, |sum, (a, b)| sum | (a ^ b));
        // The barrier keeps the compiler from leaving the loop at the first difference.
        hint::black_box(difference) == 0
    }
}

impl Eq for PasswordHash {}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// Appends the client's authentication to `out`.
///
/// The block must leave as one TLS record, alone in it: the reference server reads it with a single
/// read (protocol.md, Authentication). With the 16 350 bytes of padding that a scheme can ask for at
/// most it just fits.
pub fn put_authentication(out: &mut Vec<u8>, password: &PasswordHash, padding_bytes: u16) {
    out.reserve(HEADER_BYTES + usize::from(padding_bytes));
    out.extend_from_slice(&password.0);
    out.extend_from_slice(&padding_bytes.to_be_bytes());
    out.resize(out.len() + usize::from(padding_bytes), 0);
}

/// Whether a client knows the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does, and its authentication has been read to the end: frames follow.
    Accepted,
    /// It does not; nothing after the hash has been read.
    Rejected,
}

/// The server's side of authentication, reading the block from pieces of any size.
pub struct AuthReader {
    expected: PasswordHash,
    state: State,
}

enum State {
    /// INVARIANT: `filled` is below [`HASH_BYTES`].
    Hash {
        bytes: [u8; HASH_BYTES],
        filled: usize,
    },
    Length {
        high: Option<u8>,
    },
    Padding {
        remaining: usize,
    },
    Rejected,
}

impl AuthReader {
    /// Waits for a client that knows the password behind `expected`.
    pub fn new(expected: PasswordHash) -> Self {
        Self { expected, state: State::Hash { bytes: [0; HASH_BYTES], filled: 0 } }
    }

    /// Reads on, moving `input` past what belongs to the block; `None` when more is needed.
    ///
    /// A wrong hash is rejected as soon as it is complete. After a verdict the answer stays the same
    /// and nothing more is read.
    pub fn read(&mut self, input: &mut &[u8]) -> Option<Verdict> {
        loop {
            self.state = match &mut self.state {
                State::Hash { bytes, filled } => {
                    let (piece, rest) = input.split_at(input.len().min(HASH_BYTES - *filled));
                    *input = rest;
                    bytes[*filled..*filled + piece.len()].copy_from_slice(piece);
                    *filled += piece.len();
                    if *filled < HASH_BYTES {
                        return None;
                    }
                    if PasswordHash(*bytes) != self.expected {
                        State::Rejected
                    } else {
                        State::Length { high: None }
                    }
                }
                State::Length { high } => {
                    let byte = *input.split_off_first()?;
                    match *high {
                        None => State::Length { high: Some(byte) },
                        Some(high) => {
                            State::Padding { remaining: usize::from(u16::from_be_bytes([high, byte])) }
                        }
                    }
                }
                State::Padding { remaining } => {
                    let skipped = input.len().min(*remaining);
                    *input = &input[skipped..];
                    *remaining -= skipped;
                    return (*remaining == 0).then_some(Verdict::Accepted);
                }
                State::Rejected => return Some(Verdict::Rejected),
            };
        }
    }
}

impl fmt::Debug for AuthReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What has been read of a hash is as secret as the hash.
        f.debug_struct("AuthReader").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sha256("password"), as `printf password | sha256sum` prints it.
    const HASH: [u8; 32] = [
        0x5e, 0x88, 0x48, 0x98, 0xda, 0x28, 0x04, 0x71, 0x51, 0xd0, 0xe5, 0x6f, 0x8d, 0xc6, 0x29,
        0x27, //
        0x73, 0x60, 0x3d, 0x0d, 0x6a, 0xab, 0xbd, 0xd6, 0x2a, 0x11, 0xef, 0x72, 0x1d, 0x15, 0x42, 0xd8,
    ];

    fn reader() -> AuthReader {
        AuthReader::new(PasswordHash::of("password"))
    }

    fn block(hash: [u8; 32], rest: &[u8]) -> Vec<u8> {
        [hash.as_slice(), rest].concat()
    }

    #[test]
    fn authentication_is_hash_then_length_then_zeros() {
        let mut out = vec![0xEE];
        put_authentication(&mut out, &PasswordHash::of("password"), 3);
        assert_eq!(out[0], 0xEE);
        assert_eq!(out[1..33], HASH);
        assert_eq!(out[33..], [0, 3, 0, 0, 0]);
    }

    #[test]
    fn padding_length_is_big_endian() {
        let mut out = Vec::new();
        put_authentication(&mut out, &PasswordHash::of(""), 16_350);
        assert_eq!(out[32..34], [0x3F, 0xDE]);
        assert_eq!(out.len(), 16_384);
    }

    #[test]
    fn right_password_is_accepted_and_what_follows_is_left() {
        let bytes = block(HASH, &[0, 2, 9, 9, 4, 0]);
        let mut input = bytes.as_slice();
        assert_eq!(reader().read(&mut input), Some(Verdict::Accepted));
        assert_eq!(input, [4, 0]);
    }

    #[test]
    fn block_may_come_in_any_pieces() {
        let bytes = block(HASH, &[[1, 0].as_slice(), &[7; 256]].concat());
        for size in 1..bytes.len() {
            let mut reader = reader();
            let (first, last) = bytes.split_at((bytes.len() - 1) / size * size);
            for mut piece in first.chunks(size) {
                assert_eq!(reader.read(&mut piece), None, "pieces of {size}");
                assert!(piece.is_empty());
            }
            let with_leftover = [last, b"next"].concat();
            let mut input = with_leftover.as_slice();
            assert_eq!(reader.read(&mut input), Some(Verdict::Accepted), "pieces of {size}");
            assert_eq!(input, b"next");
        }
    }

    #[test]
    fn no_padding_is_accepted_at_the_length() {
        let bytes = block(HASH, &[0, 0]);
        let mut reader = reader();
        assert_eq!(reader.read(&mut &bytes[..33]), None);
        assert_eq!(reader.read(&mut &bytes[33..]), Some(Verdict::Accepted));
    }

    #[test]
    fn any_wrong_bit_is_rejected_before_length_and_padding() {
        for bit in 0..256 {
            let mut hash = HASH;
            hash[bit / 8] ^= 1 << (bit % 8);
            let bytes = block(hash, &[0, 0]);
            let mut reader = reader();
            let mut input = bytes.as_slice();
            assert_eq!(reader.read(&mut input), Some(Verdict::Rejected), "bit {bit}");
            assert_eq!(input, [0, 0]);
        }
    }

    #[test]
    fn rejection_is_final() {
        let mut reader = reader();
        assert_eq!(reader.read(&mut [0; 32].as_slice()), Some(Verdict::Rejected));
        let bytes = block(HASH, &[0, 0]);
        assert_eq!(reader.read(&mut bytes.as_slice()), Some(Verdict::Rejected));
    }

    #[test]
    fn accepted_stays_accepted_and_reads_no_more() {
        let mut reader = reader();
        assert_eq!(reader.read(&mut block(HASH, &[0, 0]).as_slice()), Some(Verdict::Accepted));
        let mut input = b"frames".as_slice();
        assert_eq!(reader.read(&mut input), Some(Verdict::Accepted));
        assert_eq!(input, b"frames");
    }

    #[test]
    fn hash_is_not_printed() {
        assert_eq!(format!("{:?}", PasswordHash::of("password")), "PasswordHash(..)");
        let mut reader = reader();
        reader.read(&mut &HASH[..20]);
        assert_eq!(format!("{reader:?}"), "AuthReader { .. }");
    }
}
