//! Contents that are wanted → ranges of packs to read.

use repository::ContentId;
use repository_kopia::{IndexEntry, Location};

use super::fetch::Range;

/// Pieces that are planned together. Those of one window are sorted by pack and offset, so each part of a pack is read once
/// for all of them, and a content that several places need is unsealed once. About 500 bytes each, and two windows exist at
/// a time: one being read, one being filled.
pub(crate) const WINDOW_PIECES: usize = 8 * 1024;
/// Two neighbours are read together if so many bytes or fewer between them are not wanted.
const GAP_BYTES_MAX: u64 = 64 << 10;
/// Neighbours are not joined to more than this, in bytes.
pub(crate) const RANGE_BYTES_MAX: u64 = 8 << 20;

/// One content, and the places that want it.
#[derive(Debug)]
pub(crate) struct Wanted<P> {
    pub(crate) content: ContentId,
    pub(crate) location: Location,
    /// The content carries a compressor's header of its own.
    pub(crate) compressed: bool,
    pub(crate) places: Vec<P>,
}

/// Wanted pieces, in any order.
#[derive(Debug)]
pub(crate) struct Window<P> {
    pieces: Vec<(IndexEntry, bool, P)>,
}

impl<P> Window<P> {
    pub(crate) fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.pieces.len() >= WINDOW_PIECES
    }

    pub(crate) fn push(&mut self, entry: IndexEntry, compressed: bool, place: P) {
        self.pieces.push((entry, compressed, place));
    }

    /// Empties the window: ranges of at most `bytes_max`, or of one content if that is longer, in the order of packs and
    /// offsets.
    pub(crate) fn take_ranges(&mut self, bytes_max: u64) -> Vec<Range<Vec<Wanted<P>>>> {
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.sort_by(|(a, a_compressed, _), (b, b_compressed, _)| {
            let key = |entry: &IndexEntry| (entry.location.offset, entry.location.packed_bytes);
            let pack = a.location.pack.cmp(&b.location.pack);
            pack.then(key(a).cmp(&key(b))).then(a.content.cmp(&b.content)).then(a_compressed.cmp(b_compressed))
        });
        let mut ranges: Vec<Range<Vec<Wanted<P>>>> = Vec::new();
        for (entry, compressed, place) in pieces {
            let IndexEntry { content, location, .. } = entry;
            let (start, end) = (u64::from(location.offset), location.end());
            let joined = ranges.last_mut().filter(|range| {
                let range_end = range.offset + range.length_bytes;
                range.pack == location.pack
                    && start <= range_end + GAP_BYTES_MAX
                    && end.max(range_end) - range.offset <= bytes_max
            });
            let Some(range) = joined else {
                ranges.push(Range {
                    pack: location.pack.clone(),
                    offset: start,
                    length_bytes: end - start,
                    wanted: vec![Wanted { content, location, compressed, places: vec![place] }],
                });
                continue;
            };
            range.length_bytes = range.length_bytes.max(end - range.offset);
            match range.wanted.last_mut() {
                Some(last) if last.content == content && last.location == location && last.compressed == compressed => {
                    last.places.push(place);
                }
                _ => range.wanted.push(Wanted { content, location, compressed, places: vec![place] }),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::Window;
    use repository::PackId;
    use repository_kopia::{IndexEntry, Location};

    fn entry(content: &str, pack: &str, offset: u32, packed_bytes: u32) -> IndexEntry {
        IndexEntry {
            content: content.parse().unwrap(),
            location: Location {
                pack: PackId::new(pack),
                offset,
                packed_bytes,
                original_bytes: packed_bytes,
                compression: 0,
                encryption_key: 0,
            },
            timestamp_seconds: 0,
            deleted: false,
            format_version: 3,
        }
    }

    #[track_caller]
    fn check(pieces: &[(&str, &str, u32, u32)], bytes_max: u64, expected: &str) {
        let mut window = Window::new();
        for (place, (content, pack, offset, bytes)) in pieces.iter().enumerate() {
            window.push(entry(content, pack, *offset, *bytes), false, place);
        }
        let text: Vec<String> = window
            .take_ranges(bytes_max)
            .iter()
            .map(|range| {
                let wanted: Vec<String> =
                    range.wanted.iter().map(|one| format!("{}{:?}", one.content, one.places)).collect();
                format!("{} {}+{} {}", range.pack, range.offset, range.length_bytes, wanted.join(" "))
            })
            .collect();
        assert_eq!(text.join("; "), expected);
        assert!(window.take_ranges(bytes_max).is_empty());
    }

    #[test]
    fn neighbours_are_joined_and_shared_contents_read_once() {
        check(
            &[("bb", "p1", 100, 50), ("aa", "p1", 0, 100), ("bb", "p1", 100, 50)],
            1 << 20,
            "p1 0+150 aa[1] bb[0, 2]",
        );
    }

    #[test]
    fn packs_wide_gaps_and_the_limit_part_ranges() {
        check(&[("aa", "p1", 0, 10), ("bb", "p2", 10, 10)], 1 << 20, "p1 0+10 aa[0]; p2 10+10 bb[1]");
        check(&[("aa", "p1", 0, 10), ("bb", "p1", 10 + 65536, 10)], 1 << 20, "p1 0+65556 aa[0] bb[1]");
        check(&[("aa", "p1", 0, 10), ("bb", "p1", 11 + 65536, 10)], 1 << 20, "p1 0+10 aa[0]; p1 65547+10 bb[1]");
        check(&[("aa", "p1", 0, 10), ("bb", "p1", 10, 10)], 19, "p1 0+10 aa[0]; p1 10+10 bb[1]");
        check(&[("aa", "p1", 0, 100)], 19, "p1 0+100 aa[0]");
    }
}
