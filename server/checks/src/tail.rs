//! The end of a long text, in bounded memory.

/// Keeps the last bytes of what is written to it, and counts all.
#[derive(Clone, Debug)]
pub struct Tail {
    bytes: Vec<u8>,
    most: usize,
    written: u64,
}

impl Tail {
    /// Keeps the last `most` bytes.
    pub fn new(most: usize) -> Self {
        Tail { bytes: Vec::new(), most, written: 0 }
    }

    /// Takes the next bytes. Moves no byte more than twice on average.
    pub fn push(&mut self, bytes: &[u8]) {
        self.written += bytes.len() as u64;
        let keep = &bytes[bytes.len().saturating_sub(self.most)..];
        self.bytes.extend_from_slice(keep);
        if self.bytes.len() > 2 * self.most {
            self.bytes.drain(..self.bytes.len() - self.most);
        }
    }

    /// How many bytes were taken.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The text that was kept, after a line on what was not. Bytes that are not UTF-8 are replaced.
    pub fn into_text(self) -> String {
        let kept = &self.bytes[self.bytes.len().saturating_sub(self.most)..];
        let text = String::from_utf8_lossy(kept);
        if self.written <= self.most as u64 {
            return text.into_owned();
        }
        format!("Captured {} of {} bytes\n...\n{text}", kept.len(), self.written)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_short_text_is_kept_whole() {
        let mut tail = Tail::new(5);
        tail.push(b"ab");
        tail.push(b"cde");
        assert_eq!(tail.into_text(), "abcde");
    }

    #[test]
    fn of_a_long_text_the_end_is_kept_and_the_rest_is_named() {
        let mut tail = Tail::new(3);
        tail.push(b"abcdefgh");
        assert_eq!(tail.into_text(), "Captured 3 of 8 bytes\n...\nfgh");
    }

    proptest! {
        #[test]
        fn the_end_is_kept_however_it_is_cut_up(pieces in prop::collection::vec("[a-z]{0,20}", 0..20), most in 1usize..30) {
            let whole = pieces.concat();
            let mut tail = Tail::new(most);
            pieces.iter().for_each(|piece| tail.push(piece.as_bytes()));
            prop_assert!(tail.bytes.len() <= 2 * most);
            let text = tail.into_text();
            let end = &whole[whole.len().saturating_sub(most)..];
            prop_assert_eq!(text.lines().last().unwrap_or_default(), end);
        }
    }
}
