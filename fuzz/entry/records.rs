//! An input that is a sequence of events.

/// Reads an input record by record. The last may have fewer bytes than it says.
///
/// ```text
/// | what u8 | length u16 BE | bytes … |
/// ```
pub struct Records<'a>(pub &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[what, high, low], rest) = self.0.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (bytes, rest) = rest.split_at(length);
        self.0 = rest;
        Some((what, bytes))
    }
}
