//! The bytes of a GGUF header: metadata and tensor table, never the weights.
//!
//! In: a file of any content. Out: a [`Header`], or the sentence that says why there is none. Every length is
//! checked against the file before anything is allocated, and long arrays are stepped over, so a hostile file
//! costs no more than [`MAX_HEADER_BYTES`] of reading. Format: `ggml-org/ggml`, docs/gguf.md, versions 2 and 3.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

use crate::model::GgufValue;

/// Bytes of a header at most: the vocabularies of real files take some 10 MB.
const MAX_HEADER_BYTES: u64 = 256 << 20;
/// Metadata entries at most; real files have about 50.
const MAX_ENTRIES: u64 = 1 << 16;
/// Tensors at most; real files have some thousands.
const MAX_TENSORS: u64 = 1 << 20;
/// Bytes of a key or a tensor name at most (ggml: 64 for names, 65535 for keys).
const MAX_NAME_BYTES: u64 = u16::MAX as u64;
/// Bytes of a metadata text that is kept; longer ones are stepped over.
const MAX_TEXT_BYTES: u64 = 64 << 10;
/// Values of an array that is kept; vocabularies are longer.
const MAX_ARRAY_VALUES: u64 = 4096;
/// Arrays inside arrays at most.
const MAX_DEPTH: usize = 4;
/// Dimensions of a tensor at most (`GGML_MAX_DIMS`).
const MAX_DIMS: u32 = 4;
/// Bytes read at once.
const BLOCK: usize = 64 << 10;

/// What stands before the weights.
pub(super) struct Header {
    /// Metadata by key; long arrays only by their length.
    pub(super) metadata: BTreeMap<String, GgufValue>,
    /// The tensors of this file.
    pub(super) tensors: Vec<Tensor>,
    /// Bytes of the header itself.
    pub(super) length: u64,
    /// Bytes read from disk.
    pub(super) bytes_read: u64,
    /// Bytes of the whole file.
    pub(super) file_bytes: u64,
}

/// One row of the tensor table.
pub(super) struct Tensor {
    /// Its name: `blk.0.attn_k.weight`.
    pub(super) name: String,
    /// Elements along each dimension, the row first.
    pub(super) dims: Vec<u64>,
    /// The id of its type in `catalog/ggml_types.yaml`.
    pub(super) type_id: u32,
    /// Bytes from the start of the weights.
    pub(super) offset: u64,
}

/// Why a file cannot be read, as a sentence without the file's name.
pub(super) type Broken = String;

/// Reads the header of a file of `file_bytes` bytes, from its start.
pub(super) fn read<F: Read + Seek>(file: F, file_bytes: u64) -> Result<Header, Broken> {
    let mut reader = Reader::new(file, file_bytes);
    let (num_tensors, num_entries) = preamble(&mut reader)?;
    let mut metadata = BTreeMap::new();
    for _ in 0..num_entries {
        let key = reader.name("metadata key")?;
        let type_id = reader.u32()?;
        let value = reader
            .value(type_id, 0)
            .map_err(|why| format!("{why}, in the metadata value `{key}`"))?;
        if metadata.contains_key(&key) {
            return Err(format!("the metadata key `{key}` stands there twice"));
        }
        metadata.insert(key, value);
    }
    let mut tensors = Vec::new();
    for _ in 0..num_tensors {
        tensors.push(tensor(&mut reader)?);
    }
    Ok(Header {
        metadata,
        tensors,
        length: reader.position(),
        bytes_read: reader.bytes_read,
        file_bytes: reader.file_bytes,
    })
}

/// Magic, version and the two counts, each checked.
fn preamble<F: Read + Seek>(reader: &mut Reader<F>) -> Result<(u64, u64), Broken> {
    let magic: [u8; 4] = reader.array()?;
    if &magic != b"GGUF" {
        return Err(format!(
            "it does not begin with the letters GGUF but with the bytes {:02x} {:02x} {:02x} {:02x}",
            magic[0], magic[1], magic[2], magic[3]
        ));
    }
    let version = reader.u32()?;
    if version != 0 && version.trailing_zeros() >= 16 {
        return Err("it was written for a big-endian computer".to_owned());
    }
    if !(2..=3).contains(&version) {
        return Err(format!(
            "it is of GGUF version {version}; versions 2 and 3 are known"
        ));
    }
    let num_tensors = reader.u64()?;
    let num_entries = reader.u64()?;
    // The shortest tensor row takes 24 bytes (an empty name, no dimensions), the shortest entry 13.
    reader.expect_room(num_tensors, 24, MAX_TENSORS, "tensors")?;
    reader.expect_room(num_entries, 13, MAX_ENTRIES, "metadata entries")?;
    Ok((num_tensors, num_entries))
}

fn tensor<F: Read + Seek>(reader: &mut Reader<F>) -> Result<Tensor, Broken> {
    let name = reader.name("tensor name")?;
    let num_dims = reader.u32()?;
    if num_dims > MAX_DIMS {
        return Err(format!(
            "the tensor `{name}` has {num_dims} dimensions; {MAX_DIMS} are possible"
        ));
    }
    let dims = (0..num_dims)
        .map(|_| reader.u64())
        .collect::<Result<Vec<u64>, Broken>>()?;
    let type_id = reader.u32()?;
    let offset = reader.u64()?;
    Ok(Tensor {
        name,
        dims,
        type_id,
        offset,
    })
}

/// Reads forward through a file in blocks and counts what it reads.
struct Reader<F> {
    file: F,
    block: Vec<u8>,
    /// Position in the block.
    at: usize,
    /// Position of the block's first byte in the file.
    block_start: u64,
    file_bytes: u64,
    bytes_read: u64,
}

impl<F: Read + Seek> Reader<F> {
    fn new(file: F, file_bytes: u64) -> Self {
        Self {
            file,
            block: Vec::new(),
            at: 0,
            block_start: 0,
            file_bytes,
            bytes_read: 0,
        }
    }

    fn position(&self) -> u64 {
        self.block_start.saturating_add(self.at as u64)
    }

    fn remaining(&self) -> u64 {
        self.file_bytes.saturating_sub(self.position())
    }

    /// Refuses a count whose entries, at their shortest, cannot lie in the rest of the file.
    fn expect_room(&self, count: u64, shortest: u64, most: u64, what: &str) -> Result<(), Broken> {
        if count > most || count.saturating_mul(shortest) > self.remaining() {
            return Err(format!(
                "it claims {count} {what}, which do not lie in its {} bytes",
                self.file_bytes
            ));
        }
        Ok(())
    }

    /// Steps over bytes; inside the block for free, else with a seek.
    fn skip(&mut self, bytes: u64) -> Result<(), Broken> {
        if bytes > self.remaining() {
            return Err(self.truncated());
        }
        let target = self.position().saturating_add(bytes);
        let in_block = target.saturating_sub(self.block_start);
        if in_block <= self.block.len() as u64 {
            self.at = usize::try_from(in_block).unwrap_or(usize::MAX);
            return Ok(());
        }
        self.file
            .seek(SeekFrom::Start(target))
            .map_err(|error| error.to_string())?;
        self.block.clear();
        self.at = 0;
        self.block_start = target;
        Ok(())
    }

    fn truncated(&self) -> Broken {
        format!("it ends inside its header, after {} bytes", self.file_bytes)
    }

    /// The next block of the file; its bytes start where the last one ended.
    fn refill(&mut self) -> Result<(), Broken> {
        self.block_start = self.position();
        self.at = 0;
        if self.bytes_read > MAX_HEADER_BYTES {
            return Err(format!("its header takes more than {MAX_HEADER_BYTES} bytes"));
        }
        self.block.resize(BLOCK, 0);
        let read = loop {
            match self.file.read(&mut self.block) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.map_err(|error| error.to_string())?,
            }
        };
        self.block.truncate(read);
        self.bytes_read = self.bytes_read.saturating_add(read as u64);
        if read == 0 { Err(self.truncated()) } else { Ok(()) }
    }

    /// Fills a buffer that the caller has bounded.
    fn fill(&mut self, mut into: &mut [u8]) -> Result<(), Broken> {
        while !into.is_empty() {
            let ready = self.block.get(self.at..).unwrap_or_default();
            if ready.is_empty() {
                self.refill()?;
                continue;
            }
            let count = ready.len().min(into.len());
            let (head, tail) = into.split_at_mut(count);
            head.copy_from_slice(ready.get(..count).unwrap_or_default());
            into = tail;
            self.at += count;
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, Broken> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Broken> {
        self.array().map(u64::from_le_bytes)
    }

    /// The length of a text, checked against the rest of the file.
    fn text_length(&mut self) -> Result<u64, Broken> {
        let length = self.u64()?;
        if length > self.remaining() {
            return Err(format!(
                "it claims a text of {length} bytes, and {} are left",
                self.remaining()
            ));
        }
        Ok(length)
    }

    fn text(&mut self, length: u64) -> Result<String, Broken> {
        let mut bytes = vec![0; usize::try_from(length).map_err(|error| error.to_string())?];
        self.fill(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn name(&mut self, what: &str) -> Result<String, Broken> {
        let length = self.text_length()?;
        if length > MAX_NAME_BYTES {
            return Err(format!("it has a {what} of {length} bytes"));
        }
        self.text(length)
    }

    fn value(&mut self, type_id: u32, depth: usize) -> Result<GgufValue, Broken> {
        Ok(match type_id {
            0 => GgufValue::Integer(u8::from_le_bytes(self.array()?).into()),
            1 => GgufValue::Integer(i8::from_le_bytes(self.array()?).into()),
            2 => GgufValue::Integer(u16::from_le_bytes(self.array()?).into()),
            3 => GgufValue::Integer(i16::from_le_bytes(self.array()?).into()),
            4 => GgufValue::Integer(self.u32()?.into()),
            5 => GgufValue::Integer(i32::from_le_bytes(self.array()?).into()),
            6 => GgufValue::Float(f32::from_le_bytes(self.array()?).into()),
            7 => GgufValue::Bool(self.array::<1>()? != [0]),
            8 => self.text_value()?,
            9 => self.array_value(depth)?,
            10 => GgufValue::Integer(self.u64()?.into()),
            11 => GgufValue::Integer(i64::from_le_bytes(self.array()?).into()),
            12 => GgufValue::Float(f64::from_le_bytes(self.array()?)),
            _ => return Err(format!("it uses the value type {type_id}, which does not exist")),
        })
    }

    /// A text; one too long to keep (a chat template can be) is stepped over.
    fn text_value(&mut self) -> Result<GgufValue, Broken> {
        let length = self.text_length()?;
        if length > MAX_TEXT_BYTES {
            self.skip(length)?;
            return Ok(GgufValue::LongArray(length));
        }
        self.text(length).map(GgufValue::Text)
    }

    /// An array; one too long to keep is stepped over: with one seek where its values have a fixed size.
    fn array_value(&mut self, depth: usize) -> Result<GgufValue, Broken> {
        if depth >= MAX_DEPTH {
            return Err(format!("it nests arrays more than {MAX_DEPTH} deep"));
        }
        let type_id = self.u32()?;
        let count = self.u64()?;
        let size = value_bytes(type_id);
        self.expect_room(count, size.unwrap_or(8), u64::MAX, "values of an array")?;
        if count <= MAX_ARRAY_VALUES {
            let values = (0..count)
                .map(|_| self.value(type_id, depth + 1))
                .collect::<Result<Vec<_>, _>>()?;
            return Ok(GgufValue::Array(values));
        }
        match (size, type_id) {
            (Some(size), _) => self.skip(count.saturating_mul(size))?,
            (None, 8) => {
                for _ in 0..count {
                    let length = self.text_length()?;
                    self.skip(length)?;
                }
            }
            _ => return Err(format!("it has an array of {count} arrays")),
        }
        Ok(GgufValue::LongArray(count))
    }
}

/// Bytes of a value of fixed size.
fn value_bytes(type_id: u32) -> Option<u64> {
    Some(match type_id {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}
