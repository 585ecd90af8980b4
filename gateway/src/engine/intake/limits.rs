//! What an archive may hold. `docs/reference/limits.md` tells users the same numbers; a test compares the two.

/// The limits of one archive.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes as they travel.
    pub compressed: u64,
    /// Bytes of the tar stream after decompression, headers included.
    pub unpacked: u64,
    /// Bytes of one file.
    pub file: u64,
    /// Files, folders and links together.
    pub entries: u32,
    /// Bytes of a path.
    pub path: usize,
    /// Bytes of one component of a path.
    pub component: usize,
    /// Unpacked bytes per compressed byte, asked once [`Limits::ratio_from`] bytes are unpacked.
    pub ratio: u64,
    pub ratio_from: u64,
}

/// The limits in force.
pub const LIMITS: Limits = Limits {
    compressed: 512 << 20,
    unpacked: 4 << 30,
    file: 2 << 30,
    entries: 200_000,
    path: 1024,
    component: 255,
    ratio: 1_000,
    ratio_from: 1 << 30,
};

/// Bytes of a text (manifest, `composer.json`, …) that detection reads; larger files are treated as not read.
pub const TEXT: u64 = 1 << 20;

/// Bytes of the extended header (long names) of one entry.
pub const EXTENDED_HEADER: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_page_tells_these_numbers() {
        let page = include_str!("../../../../docs/reference/limits.md");
        for row in [
            format!("| Archive, compressed | {} MiB |", LIMITS.compressed >> 20),
            format!("| Archive, unpacked | {} GiB |", LIMITS.unpacked >> 30),
            format!("| One file | {} GiB |", LIMITS.file >> 30),
            format!("| Entries (files, folders, links) | {} |", LIMITS.entries),
            format!("| Path | {} bytes |", LIMITS.path),
            format!("| One component of a path | {} bytes |", LIMITS.component),
            format!("| Compression ratio (beyond {} GiB unpacked) | {} : 1 |", LIMITS.ratio_from >> 30, LIMITS.ratio),
            format!("| A text that detection reads | {} MiB |", TEXT >> 20),
        ] {
            assert!(page.contains(&row), "docs/reference/limits.md lacks: {row}");
        }
    }
}
