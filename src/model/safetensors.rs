//! safetensors headers: which tensors a weight file holds, read without touching their data.
//!
//! In: a file that can be read from its start, and its length. Out: a [`Header`], or the [`HeaderError`] that
//! makes it unloadable. Reads the 8-byte length and the JSON header, nothing else, however large the file.
//! The checks are those of the reference reader (safetensors 0.6, `tensor.rs`, `SafeTensors::read_metadata` and
//! `Metadata::validate`): offsets cover the data without gap or overlap, and each agrees with its shape.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// The longest header that the format allows, in bytes (safetensors `MAX_HEADER_SIZE`).
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Bytes of the length that stands before the header.
const LENGTH_BYTES: u64 = 8;

/// One tensor as the header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name: `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Its element type as the header spells it: `BF16`, `F8_E4M3`, `U32`, ...
    pub dtype: Cow<'static, str>,
    /// Its dimensions.
    pub shape: Vec<u64>,
    /// Bytes of its data.
    pub bytes: u64,
}

impl Tensor {
    /// Elements by the shape; for packed weights fewer than the parameters they hold. Saturates.
    pub fn elements(&self) -> u64 {
        crate::memory::product(&self.shape)
    }

    /// The last dimension; 1 for a scalar.
    pub fn columns(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }
}

/// What the start of a file tells of all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The tensors in the order of their data.
    pub tensors: Vec<Tensor>,
    /// Bytes of all their data.
    pub data_bytes: u64,
    /// Bytes of the header with the length before it: what was read.
    pub header_bytes: u64,
}

impl Header {
    /// The length in bytes that the file has when nothing is cut off.
    pub fn file_bytes(&self) -> u64 {
        self.header_bytes.saturating_add(self.data_bytes)
    }
}

/// Why a header cannot be used, in words that follow the file's name.
#[derive(Debug)]
pub enum HeaderError {
    /// Reading failed.
    Io(io::Error),
    /// Fewer bytes than the header's length takes.
    TooShort {
        /// Bytes of the file.
        file_bytes: u64,
    },
    /// A header longer than the format allows.
    TooLong {
        /// The length it claims, in bytes.
        claimed: u64,
    },
    /// A header longer than the file.
    PastTheEnd {
        /// The length it claims, in bytes.
        claimed: u64,
        /// Bytes of the file.
        file_bytes: u64,
    },
    /// Not the JSON it must be.
    Json(serde_json::Error),
    /// A tensor whose description contradicts itself or its neighbours.
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot be read: {error}"),
            Self::TooShort { file_bytes: 0 } => write!(f, "is empty"),
            Self::TooShort { file_bytes } => write!(
                f,
                "holds {file_bytes} bytes, fewer than the 8 that give a safetensors header's length"
            ),
            Self::TooLong { claimed } => write!(
                f,
                "claims a header length of {claimed} bytes; the safetensors format allows at most \
                 {MAX_HEADER_BYTES}, so these are not safetensors data"
            ),
            Self::PastTheEnd { claimed, file_bytes } => write!(
                f,
                "claims a header length of {claimed} bytes but holds {file_bytes} bytes in all"
            ),
            Self::Json(error) => write!(f, "has a header that is not valid JSON: {error}"),
            Self::Tensor { name, reason } => write!(f, "has a broken header: tensor `{name}` {reason}"),
        }
    }
}

/// Reads a header from the start of a file of `file_bytes` bytes.
///
/// # Errors
/// When the header is absent, too long, not JSON, or describes tensors that no reader would load. Data that
/// are cut off are no error here: compare [`Header::file_bytes`] with the length of the file.
pub fn read(mut file: impl Read, file_bytes: u64) -> Result<Header, HeaderError> {
    let Some(rest) = file_bytes.checked_sub(LENGTH_BYTES) else {
        return Err(HeaderError::TooShort { file_bytes });
    };
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(HeaderError::Io)?;
    let claimed = u64::from_le_bytes(length);
    if claimed > MAX_HEADER_BYTES {
        return Err(HeaderError::TooLong { claimed });
    }
    if claimed > rest {
        return Err(HeaderError::PastTheEnd { claimed, file_bytes });
    }
    let mut json = Vec::new();
    file.take(claimed)
        .read_to_end(&mut json)
        .map_err(HeaderError::Io)?;
    let Entries(mut entries) = serde_json::from_slice(&json).map_err(HeaderError::Json)?;
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let (tensors, data_bytes) = lay_out(entries)?;
    let header_bytes = claimed.saturating_add(LENGTH_BYTES);
    Ok(Header {
        tensors,
        data_bytes,
        header_bytes,
    })
}

/// Checks entries in the order of their offsets; gives the tensors and the bytes they cover.
fn lay_out(entries: Vec<(String, Entry)>) -> Result<(Vec<Tensor>, u64), HeaderError> {
    let mut tensors: Vec<Tensor> = Vec::with_capacity(entries.len());
    let mut end = 0;
    for (name, entry) in entries {
        match place(&entry, end) {
            Ok((shape, bytes)) => {
                end += bytes;
                tensors.push(Tensor {
                    name,
                    dtype: entry.dtype,
                    shape,
                    bytes,
                });
            }
            Err(reason) => return Err(HeaderError::Tensor { name, reason }),
        }
    }
    Ok((tensors, end))
}

/// Shape and bytes of an entry whose data must begin at `expected`.
fn place(entry: &Entry, expected: u64) -> Result<(Vec<u64>, u64), String> {
    let dims: Result<Vec<u64>, _> = entry.shape.iter().map(|dim| u64::try_from(*dim)).collect();
    let shape = dims.map_err(|_| format!("has a negative dimension in its shape {:?}", entry.shape))?;
    let [start, end] = entry.data_offsets;
    let (Ok(start), Ok(end)) = (u64::try_from(start), u64::try_from(end)) else {
        return Err(format!("has negative data offsets {start}..{end}"));
    };
    let Some(bytes) = end.checked_sub(start) else {
        return Err(format!("has data offsets that run backwards, {start}..{end}"));
    };
    if start < expected {
        return Err(format!(
            "starts at byte {start} of the data, inside its neighbour, which ends at {expected}"
        ));
    }
    if start > expected {
        return Err(format!(
            "starts at byte {start} of the data; its neighbour ends at {expected}, and the format allows no gaps"
        ));
    }
    // A type that this table lacks is newer than it; its offsets still tell its bytes.
    if let Some(bits) = dtype_bits(&entry.dtype) {
        let needed = shape_bytes(&shape, bits);
        if needed != Some(bytes) {
            let needed = needed.map_or_else(|| "more than 2^64".to_owned(), |needed| needed.to_string());
            return Err(format!(
                "covers {bytes} bytes, but its shape {shape:?} in {} takes {needed}",
                entry.dtype
            ));
        }
    }
    Ok((shape, bytes))
}

fn shape_bytes(shape: &[u64], bits: u64) -> Option<u64> {
    if shape.contains(&0) {
        return Some(0);
    }
    let bits = shape.iter().try_fold(u128::from(bits), |product, dim| {
        product.checked_mul(u128::from(*dim))
    })?;
    if bits % 8 != 0 {
        return None;
    }
    u64::try_from(bits / 8).ok()
}

/// Bits of one element (safetensors `Dtype`); `None` for a type that is not in the format's list.
pub fn dtype_bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" => 8,
        _ if dtype.starts_with("F8_") => 8,
        "U16" | "I16" | "F16" | "BF16" => 16,
        "U32" | "I32" | "F32" => 32,
        "U64" | "I64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

/// One value of the header's JSON. Signed, so that a negative number gets its own words.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(deserialize_with = "dtype")]
    dtype: Cow<'static, str>,
    shape: Vec<i64>,
    data_offsets: [i64; 2],
}

/// The known spellings without an allocation each: a large checkpoint has 100,000 tensors.
fn dtype<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'static, str>, D::Error> {
    const KNOWN: [&str; 14] = [
        "BF16", "F16", "F32", "F8_E4M3", "F8_E5M2", "F8_E8M0", "U8", "I8", "I32", "U32", "I64", "BOOL", "F4",
        "F64",
    ];
    let text: Cow<'de, str> = Deserialize::deserialize(deserializer)?;
    let known = KNOWN.iter().find(|known| **known == text);
    Ok(known.map_or_else(|| Cow::Owned(text.into_owned()), |known| Cow::Borrowed(*known)))
}

/// The header's JSON object, `__metadata__` left out.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(json: &str) -> Vec<u8> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes
    }

    fn words(json: &str) -> String {
        let bytes = file(json);
        read(bytes.as_slice(), bytes.len() as u64)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn tensors_come_in_the_order_of_their_data_without_the_metadata() {
        let bytes = file(
            r#"{"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]},"__metadata__":{"format":"pt"},
                "a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}  "#,
        );
        let header = read(bytes.as_slice(), bytes.len() as u64 + 20).unwrap();
        let names: Vec<_> = header.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!((names, header.data_bytes), (vec!["a", "b"], 20));
        assert_eq!(header.file_bytes(), bytes.len() as u64 + 20);
    }

    #[test]
    fn impossible_lengths_are_named_with_their_numbers() {
        let mut bytes = (1u64 << 60).to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        let words = |bytes: &[u8]| read(bytes, bytes.len() as u64).unwrap_err().to_string();
        assert!(words(&bytes).contains("header length of 1152921504606846976 bytes"));
        assert!(words(&bytes[..3]).starts_with("holds 3 bytes"));
        assert_eq!(words(&[]), "is empty");
        let beyond = [50u64.to_le_bytes().as_slice(), b"{}"].concat();
        assert_eq!(
            words(&beyond),
            "claims a header length of 50 bytes but holds 10 bytes in all"
        );
    }

    #[test]
    fn broken_descriptions_name_the_tensor_and_what_contradicts() {
        let one = |dtype: &str, shape: &str, offsets: &str| {
            words(&format!(
                r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#
            ))
        };
        assert!(one("BF16", "[4,-1]", "[0,8]").contains("`w` has a negative dimension in its shape [4, -1]"));
        assert!(one("BF16", "[4]", "[0,9]").contains("covers 9 bytes, but its shape [4] in BF16 takes 8"));
        assert!(one("BF16", "[4]", "[8,0]").contains("run backwards"));
        assert!(one("BF16", "[4]", "[2,10]").contains("allows no gaps"));
        assert!(one("F32", "[4611686018427387904,16]", "[0,8]").contains("more than 2^64"));
        assert!(words("{\"w\": [1, 2").contains("not valid JSON"));
        assert!(words("[]").contains("not valid JSON"));
    }

    #[test]
    fn overlapping_tensors_are_refused() {
        let json = r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},
                       "b":{"dtype":"U8","shape":[8],"data_offsets":[4,12]}}"#;
        assert!(words(json).contains("`b` starts at byte 4 of the data, inside its neighbour"));
    }

    #[test]
    fn a_type_newer_than_the_table_is_sized_by_its_offsets() {
        let bytes = file(r#"{"w":{"dtype":"F3_NEW","shape":[8],"data_offsets":[0,3]}}"#);
        assert_eq!(read(bytes.as_slice(), 900).unwrap().data_bytes, 3);
    }

    fn any_tensor() -> impl Strategy<Value = (usize, Vec<u64>)> {
        (0..4usize, prop::collection::vec(0..40u64, 0..4))
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), length: u64) {
            drop(read(bytes.as_slice(), length));
            drop(read(bytes.as_slice(), bytes.len() as u64));
        }

        #[test]
        fn a_damaged_header_never_panics(at in 0..120usize, byte: u8) {
            let mut bytes = file(r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"U8","shape":[8],"data_offsets":[24,32]}}"#);
            if let Some(place) = bytes.get_mut(at) { *place = byte; }
            drop(read(bytes.as_slice(), bytes.len() as u64 + 32));
        }

        #[test]
        fn a_written_header_reads_back_to_its_bytes(tensors in prop::collection::vec(any_tensor(), 0..20)) {
            let types = [("BF16", 2), ("F32", 4), ("F8_E4M3", 1), ("I64", 8)];
            let mut json = serde_json::Map::new();
            let mut end = 0;
            for (at, (dtype, shape)) in tensors.iter().enumerate() {
                let bytes = shape.iter().product::<u64>() * types[*dtype].1;
                json.insert(format!("t{at}"), serde_json::json!({
                    "dtype": types[*dtype].0, "shape": shape, "data_offsets": [end, end + bytes]
                }));
                end += bytes;
            }
            let bytes = file(&serde_json::Value::Object(json).to_string());
            let header = read(bytes.as_slice(), bytes.len() as u64 + end).unwrap();
            prop_assert_eq!(header.data_bytes, end);
            prop_assert_eq!(header.tensors.len(), tensors.len());
            for tensor in &header.tensors {
                let at: usize = tensor.name[1..].parse().unwrap();
                prop_assert_eq!(&tensor.shape, &tensors[at].1);
            }
        }
    }
}
