//! A file on the hub that can be read like one on disk, as far as its header goes.
//!
//! In: a hub, and the name and size of a file. Out: a reader that fetches ranges as they are needed: 64 KiB first,
//! each following one twice as long up to 8 MiB, so that a header of 10 MB takes eight requests.

use std::io::{self, Read, Seek, SeekFrom};

use crate::hub::{Error, Hub, Subject};
use crate::model::safetensors::{self, Header, HeaderError};

/// Bytes of the first range; nine in ten safetensors headers are shorter.
const FIRST_BYTES: u64 = 64 << 10;
/// Bytes of a range at most.
const MOST_BYTES: u64 = 8 << 20;
/// Bytes of the length before a safetensors header.
const LENGTH_BYTES: u64 = 8;

/// Reads the header of a safetensors file of `file_bytes` bytes: one request, or two where it is long.
///
/// # Errors
/// In words, when the hub gives no such range or the header is not one of a whole file.
pub(super) fn safetensors_header(
    hub: &Hub,
    file: &Subject,
    file_bytes: Option<u64>,
) -> Result<Header, String> {
    let first = hub
        .part(file, 0..file_bytes.unwrap_or(FIRST_BYTES).min(FIRST_BYTES))
        .map_err(|error| error.to_string())?;
    let file_bytes = same_size(file, file_bytes, first.file_bytes)?;
    let mut bytes = first.bytes;
    let end = claimed_end(&bytes).filter(|end| *end <= file_bytes);
    if let Some(end) = end.filter(|end| *end > bytes.len() as u64) {
        let rest = hub
            .part(file, bytes.len() as u64..end)
            .map_err(|error| error.to_string())?;
        bytes.extend(rest.bytes);
    }
    let header = safetensors::read(bytes.as_slice(), file_bytes).map_err(|error| broken(file, &error))?;
    if header.file_bytes() != file_bytes {
        return Err(format!(
            "{file}: its header describes {} bytes, and the hub says that it has {file_bytes}",
            header.file_bytes()
        ));
    }
    Ok(header)
}

fn broken(file: &Subject, error: &HeaderError) -> String {
    format!("{file} {error}")
}

/// Where the header ends by its length; `None` for a length that the format does not allow.
fn claimed_end(bytes: &[u8]) -> Option<u64> {
    let length = u64::from_le_bytes(*bytes.first_chunk::<8>()?);
    let end = length.checked_add(LENGTH_BYTES);
    end.filter(|_| length <= safetensors::MAX_HEADER_BYTES)
}

/// The size of a file that both the description and the answer told, or either.
fn same_size(file: &Subject, described: Option<u64>, answered: Option<u64>) -> Result<u64, String> {
    match (described, answered) {
        (Some(described), Some(answered)) if described != answered => Err(format!(
            "{file}: the hub describes a file of {described} bytes and sends from one of {answered}"
        )),
        (Some(size), _) | (None, Some(size)) => Ok(size),
        (None, None) => Err(format!("{file}: the hub does not tell its size")),
    }
}

/// A file on the hub with a place to read from.
#[derive(Debug)]
pub(super) struct RemoteFile<'h> {
    hub: &'h Hub,
    file: Subject,
    pub(super) file_bytes: u64,
    position: u64,
    /// The last range fetched, and where it begins.
    block: Vec<u8>,
    block_start: u64,
    next_bytes: u64,
    /// Why reading ended, where the hub is to blame.
    pub(super) failure: Option<Error>,
}

impl<'h> RemoteFile<'h> {
    pub(super) fn new(hub: &'h Hub, file: Subject, file_bytes: u64) -> Self {
        Self {
            hub,
            file,
            file_bytes,
            position: 0,
            block: Vec::new(),
            block_start: 0,
            next_bytes: FIRST_BYTES,
            failure: None,
        }
    }

    /// What is fetched and lies at the position.
    fn ready(&self) -> &[u8] {
        let inside = self.position.checked_sub(self.block_start);
        let inside = inside.and_then(|at| usize::try_from(at).ok());
        inside.and_then(|at| self.block.get(at..)).unwrap_or_default()
    }

    fn fetch(&mut self) -> io::Result<()> {
        let end = self.position.saturating_add(self.next_bytes).min(self.file_bytes);
        self.next_bytes = self.next_bytes.saturating_mul(2).min(MOST_BYTES);
        let part = self.hub.part(&self.file, self.position..end).map_err(|error| {
            let words = error.to_string();
            self.failure = Some(error);
            io::Error::other(words)
        })?;
        self.block = part.bytes;
        self.block_start = self.position;
        Ok(())
    }
}

impl Read for RemoteFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ready().is_empty() && self.position < self.file_bytes {
            self.fetch()?;
        }
        let ready = self.ready();
        let count = ready.len().min(buffer.len());
        for (into, byte) in buffer.iter_mut().zip(ready) {
            *into = *byte;
        }
        self.position = self.position.saturating_add(count as u64);
        Ok(count)
    }
}

impl Seek for RemoteFile<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.file_bytes.checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}
