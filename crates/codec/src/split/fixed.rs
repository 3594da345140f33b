//! Pieces of one length.

/// Cuts after every `piece_bytes` bytes.
#[derive(Clone, Debug)]
pub struct Fixed {
    piece_bytes: usize,
    missing_bytes: usize,
}

impl Fixed {
    pub fn new(piece_bytes: usize) -> Self {
        Self { piece_bytes, missing_bytes: piece_bytes }
    }

    pub fn next_cut(&mut self, bytes: &[u8]) -> Option<usize> {
        if bytes.len() < self.missing_bytes {
            self.missing_bytes -= bytes.len();
            return None;
        }
        let cut = self.missing_bytes;
        self.missing_bytes = self.piece_bytes;
        Some(cut)
    }
}
