//! From an untrusted archive to a checked one: decodes, checks and re-encodes in one pass, entry by entry.
//!
//! Everything that may differ without meaning is made equal (owner root, modes 0644 and 0755). Modification times are
//! kept: web servers derive `Last-Modified` and `ETag` from them, so a fixed time would keep stale files in browsers.

use std::cell::Cell;
use std::io::{Read, Write};
use std::path::Path;
use std::rc::Rc;

use magrathea_buildpacks::Tree;
use magrathea_core::wire::Blob;
use sha2::{Digest, Sha256};

use super::entry::{self, IntakeError, Kind, Seen};
use super::limits::{EXTENDED_HEADER, Limits, TEXT};

/// A source tree that was taken in.
#[derive(Debug)]
pub struct Source {
    pub blob: Blob,
    pub tree: Tree,
    /// The text of `magrathea.yml`.
    pub manifest: Option<String>,
}

/// How an archive arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Zstd,
    /// From a program of our own on this machine.
    Plain,
}

/// Reads a tar and stores it, checked and normalised, as `folder/SHA256`. Blocks.
pub fn take_in(archive: impl Read, packing: Packing, folder: &Path, limits: &Limits) -> Result<Source, IntakeError> {
    let counts = Rc::new(Counts::default());
    match packing {
        Packing::Plain => {
            // Nothing is compressed, so no ratio can be exceeded.
            counts.compressed.set(u64::MAX);
            store(Counted { inner: archive, counts, side: Side::Unpacked, limits }, folder, limits)
        }
        Packing::Zstd => {
            let compressed = Counted { inner: archive, counts: counts.clone(), side: Side::Compressed, limits };
            let decoder = zstd::Decoder::new(compressed).map_err(read_error)?;
            store(Counted { inner: decoder, counts, side: Side::Unpacked, limits }, folder, limits)
        }
    }
}

fn store(archive: impl Read, folder: &Path, limits: &Limits) -> Result<Source, IntakeError> {
    let mut input = tar::Archive::new(archive);
    let file = tempfile::NamedTempFile::new_in(folder).map_err(IntakeError::Store)?;
    let encoder = zstd::Encoder::new(Hashed::new(file), 1).map_err(IntakeError::Store)?;
    let mut pass = Pass { limits, seen: Seen::default(), tree: Tree::default(), manifest: None };
    let mut output = tar::Builder::new(encoder);
    pass.run(&mut input, &mut output)?;
    let hashed = output.into_inner().and_then(|encoder| encoder.finish()).map_err(IntakeError::Store)?;
    if pass.tree.files.is_empty() {
        return Err(IntakeError::Empty);
    }

    let (file, blob) = hashed.finish().map_err(IntakeError::Store)?;
    // Always replaced: a file of this name may be torn by a power cut, for it is not synced.
    file.persist(folder.join(&blob.sha256)).map_err(|e| IntakeError::Store(e.error))?;
    Ok(Source { blob, tree: pass.tree, manifest: pass.manifest })
}

/// What extended headers say about the entry that follows them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

struct Pass<'a> {
    limits: &'a Limits,
    seen: Seen,
    tree: Tree,
    manifest: Option<String>,
}

impl Pass<'_> {
    /// Entries are read raw, because the tar crate would take extended headers of any size into memory.
    fn run<R: Read, W: Write>(
        &mut self,
        input: &mut tar::Archive<R>,
        output: &mut tar::Builder<W>,
    ) -> Result<(), IntakeError> {
        let limits = self.limits;
        let mut extended = Extended::default();
        let mut count = 0;
        for entry in input.entries().map_err(read_error)?.raw(true) {
            let mut entry = entry.map_err(read_error)?;
            match entry.header().entry_type() {
                tar::EntryType::XGlobalHeader => continue,
                tar::EntryType::GNULongName => extended.path = Some(long_name(&mut entry)?),
                tar::EntryType::GNULongLink => extended.link = Some(long_name(&mut entry)?),
                tar::EntryType::XHeader => read_pax(&mut entry, &mut extended)?,
                _ => {
                    count += 1;
                    if count > limits.entries {
                        return Err(IntakeError::Limit {
                            what: "holds more entries than",
                            limit: limits.entries.to_string(),
                            hint: "leave dependencies and generated files out; the build can fetch them",
                        });
                    }
                    self.take(&mut entry, std::mem::take(&mut extended), output)?;
                }
            }
        }
        Ok(())
    }

    fn take<R: Read, W: Write>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        extended: Extended,
        output: &mut tar::Builder<W>,
    ) -> Result<(), IntakeError> {
        let raw = extended.path.unwrap_or_else(|| entry.path_bytes().into_owned());
        let Some(path) = entry::clean_path(&raw, self.limits)? else { return Ok(()) };
        if entry::is_ignored(&path) {
            return Ok(());
        }
        let link = || extended.link.clone().or_else(|| entry.link_name_bytes().map(|name| name.into_owned()));
        let mut header = tar::Header::new_gnu();
        header.set_mtime(entry.header().mtime().unwrap_or(0).min(u64::from(u32::MAX)));
        let executable = entry.header().mode().unwrap_or(0) & 0o111 != 0;
        header.set_mode(if executable { 0o755 } else { 0o644 });
        header.set_size(0);
        header.set_uid(0);
        header.set_gid(0);

        match entry.header().entry_type() {
            tar::EntryType::Directory => {
                if !self.seen.note(&path, Kind::Folder)? {
                    return Ok(());
                }
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                output.append_data(&mut header, &path, std::io::empty()).map_err(IntakeError::Store)
            }
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                self.seen.note(&path, Kind::File)?;
                header.set_size(entry.size());
                self.take_file(entry, header, path, output)
            }
            tar::EntryType::Symlink => {
                let target = entry::check_symlink(&path, &link().unwrap_or_default(), self.limits)?;
                self.seen.note(&path, Kind::Symlink)?;
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                output.append_link(&mut header, &path, &target).map_err(IntakeError::Store)
            }
            tar::EntryType::Link => {
                let target = entry::clean_path(&link().unwrap_or_default(), self.limits)?;
                self.seen.check_hard_link(&path, target.as_deref())?;
                self.seen.note(&path, Kind::File)?;
                let target = target.unwrap_or_default();
                if let Some(text) = self.tree.texts.get(&target).cloned() {
                    self.tree.texts.insert(path.clone(), text);
                }
                self.tree.files.insert(path.clone());
                header.set_entry_type(tar::EntryType::Link);
                output.append_link(&mut header, &path, &target).map_err(IntakeError::Store)
            }
            other => Err(entry::refuse_type(&path, other)),
        }
    }

    fn take_file<R: Read, W: Write>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        mut header: tar::Header,
        path: String,
        output: &mut tar::Builder<W>,
    ) -> Result<(), IntakeError> {
        let size = entry.size();
        if size > self.limits.file {
            return Err(IntakeError::Entry {
                path,
                reason: format!("is larger than the limit of {} MiB for one file", self.limits.file >> 20),
                hint: "keep large data in a writable path or outside the app",
            });
        }
        let is_manifest = path == magrathea_core::manifest::FILE_NAME;
        if size <= TEXT && (is_manifest || magrathea_buildpacks::wanted(&path)) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(read_error)?;
            output.append_data(&mut header, &path, bytes.as_slice()).map_err(IntakeError::Store)?;
            match String::from_utf8(bytes) {
                Ok(text) if is_manifest => self.manifest = Some(text),
                Ok(text) => {
                    self.tree.texts.insert(path.clone(), text);
                }
                Err(_) if is_manifest => {
                    return Err(IntakeError::Entry {
                        path,
                        reason: "is not UTF-8 text".into(),
                        hint: "save it as UTF-8",
                    });
                }
                Err(_) => {}
            }
        } else if is_manifest {
            return Err(IntakeError::Entry {
                path,
                reason: format!("is larger than the limit of {} MiB", TEXT >> 20),
                hint: "shorten it",
            });
        } else {
            // Both a bad archive and a full disk end here; only the former's errors are wrapped.
            output.append_data(&mut header, &path, entry).map_err(|e| match e.downcast::<ReadFailure>() {
                Ok(failure) => failure.0,
                Err(e) => IntakeError::Store(e),
            })?;
        }
        self.tree.files.insert(path);
        Ok(())
    }
}

fn bounded<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Vec<u8>, IntakeError> {
    if entry.size() > EXTENDED_HEADER {
        return Err(IntakeError::Unreadable(format!("an extended header is larger than {EXTENDED_HEADER} bytes")));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(read_error)?;
    Ok(bytes)
}

fn long_name<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Vec<u8>, IntakeError> {
    let mut bytes = bounded(entry)?;
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

fn read_pax<R: Read>(entry: &mut tar::Entry<'_, R>, extended: &mut Extended) -> Result<(), IntakeError> {
    let bytes = bounded(entry)?;
    for extension in tar::PaxExtensions::new(&bytes) {
        let extension = extension.map_err(read_error)?;
        match extension.key_bytes() {
            b"path" => extended.path = Some(extension.value_bytes().to_vec()),
            b"linkpath" => extended.link = Some(extension.value_bytes().to_vec()),
            // Written only for sizes that the plain header cannot hold, far above the limit of one file.
            b"size" => return Err(IntakeError::Unreadable("a file's size is in an extended header".into())),
            key if key.starts_with(b"GNU.sparse") => {
                return Err(IntakeError::Unreadable("it holds sparse files".into()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// An intake error on its way through `std::io`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ReadFailure(IntakeError);

fn read_error(error: std::io::Error) -> IntakeError {
    match error.downcast::<ReadFailure>() {
        Ok(failure) => failure.0,
        Err(error) => IntakeError::Unreadable(error.to_string()),
    }
}

#[derive(Debug, Default)]
struct Counts {
    compressed: Cell<u64>,
    unpacked: Cell<u64>,
}

#[derive(Clone, Copy)]
enum Side {
    Compressed,
    Unpacked,
}

/// Counts what passes and fails at the first byte over a limit, before it is used.
struct Counted<'a, R> {
    inner: R,
    counts: Rc<Counts>,
    side: Side,
    limits: &'a Limits,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer).map_err(|e| std::io::Error::other(ReadFailure(read_error(e))))?;
        let (cell, limit, what) = match self.side {
            Side::Compressed => (&self.counts.compressed, self.limits.compressed, "is, compressed, larger than"),
            Side::Unpacked => (&self.counts.unpacked, self.limits.unpacked, "is, unpacked, larger than"),
        };
        cell.set(cell.get() + n as u64);
        let hint = "leave dependencies, uploads and generated files out";
        if cell.get() > limit {
            let limit = format!("{} MiB", limit >> 20);
            return Err(std::io::Error::other(ReadFailure(IntakeError::Limit { what, limit, hint })));
        }
        let (unpacked, compressed) = (self.counts.unpacked.get(), self.counts.compressed.get());
        if unpacked > self.limits.ratio_from && unpacked / compressed.max(1) > self.limits.ratio {
            let (what, limit) = ("is compressed more than", format!("{} : 1", self.limits.ratio));
            return Err(std::io::Error::other(ReadFailure(IntakeError::Limit { what, limit, hint })));
        }
        Ok(n)
    }
}

/// Hashes and counts what is written.
struct Hashed {
    file: std::io::BufWriter<tempfile::NamedTempFile>,
    hash: Sha256,
    size: u64,
}

impl Hashed {
    fn new(file: tempfile::NamedTempFile) -> Self {
        Hashed { file: std::io::BufWriter::new(file), hash: Sha256::new(), size: 0 }
    }

    fn finish(self) -> std::io::Result<(tempfile::NamedTempFile, Blob)> {
        let file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        Ok((file, Blob { sha256: hex::encode(self.hash.finalize()), size: self.size }))
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(bytes.get(..n).unwrap_or_default());
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
