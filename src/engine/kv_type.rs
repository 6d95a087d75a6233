//! Element types of a KV cache, and their bytes.

use crate::model::Dtype;

/// How the KV cache stores its elements. The names are those of the engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KvType {
    /// The model's dtype, whatever it is (vLLM, SGLang `auto`).
    Auto,
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
    /// 8-bit integer, scales not counted per element (MLX-family `--kv-cache-mode int8`).
    Int8,
    /// 8-bit float, any variant.
    Fp8,
    /// 4-bit integer.
    Int4,
    /// 4-bit float with a scale per 16 elements.
    Nvfp4,
    /// ggml: 32 elements in so many bytes.
    Q8_0,
    /// ggml.
    Q5_1,
    /// ggml.
    Q5_0,
    /// ggml.
    Q4_1,
    /// ggml.
    Q4_0,
    /// ggml.
    Iq4Nl,
}

impl KvType {
    /// Every type, for messages and look-ups.
    pub const ALL: [Self; 14] = [
        Self::Auto,
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Int8,
        Self::Fp8,
        Self::Int4,
        Self::Nvfp4,
        Self::Q8_0,
        Self::Q5_1,
        Self::Q5_0,
        Self::Q4_1,
        Self::Q4_0,
        Self::Iq4Nl,
    ];

    /// The name in manifests and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "fp32",
            Self::F16 => "fp16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Fp8 => "fp8",
            Self::Int4 => "int4",
            Self::Nvfp4 => "nvfp4",
            Self::Q8_0 => "q8_0",
            Self::Q5_1 => "q5_1",
            Self::Q5_0 => "q5_0",
            Self::Q4_1 => "q4_1",
            Self::Q4_0 => "q4_0",
            Self::Iq4Nl => "iq4_nl",
        }
    }

    /// Reads any engine's spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Some(
            match text.trim().to_ascii_lowercase().replace('-', "_").as_str() {
                "auto" => Self::Auto,
                "f32" | "fp32" | "float32" | "float" => Self::F32,
                "f16" | "fp16" | "float16" | "half" => Self::F16,
                "bf16" | "bfloat16" => Self::Bf16,
                "int8" | "i8" | "8bit" | "q8" => Self::Int8,
                "fp8" | "fp8_e4m3" | "fp8_e5m2" | "fp8_e4m3fn" | "fp8_inc" | "f8" => Self::Fp8,
                "int4" | "i4" | "4bit" | "q4" => Self::Int4,
                "nvfp4" | "fp4" => Self::Nvfp4,
                "q8_0" => Self::Q8_0,
                "q5_1" => Self::Q5_1,
                "q5_0" => Self::Q5_0,
                "q4_1" => Self::Q4_1,
                "q4_0" => Self::Q4_0,
                "iq4_nl" => Self::Iq4Nl,
                _ => return None,
            },
        )
    }

    /// The type that `Auto` stands for under a model dtype; any other type is itself.
    pub fn resolve(self, dtype: Option<Dtype>) -> Self {
        match (self, dtype) {
            (Self::Auto, Some(Dtype::Float32)) => Self::F32,
            (Self::Auto, Some(Dtype::Float16)) => Self::F16,
            (Self::Auto, _) => Self::Bf16,
            (other, _) => other,
        }
    }

    /// Bytes of a row of `elements`, as stored: block formats count whole blocks with their scales (ggml:
    /// `ggml_row_size`). `Auto` counts 2 bytes an element.
    pub fn row_bytes(self, elements: u64) -> u64 {
        let (block, bytes) = self.block();
        elements.div_ceil(block).saturating_mul(bytes)
    }

    /// Elements of one block and its bytes.
    pub fn block(self) -> (u64, u64) {
        match self {
            Self::F32 => (1, 4),
            Self::Auto | Self::F16 | Self::Bf16 => (1, 2),
            Self::Int8 | Self::Fp8 => (1, 1),
            Self::Int4 => (2, 1),
            Self::Nvfp4 => (16, 9),
            Self::Q8_0 => (32, 34),
            Self::Q5_1 => (32, 24),
            Self::Q5_0 => (32, 22),
            Self::Q4_1 => (32, 20),
            Self::Q4_0 | Self::Iq4Nl => (32, 18),
        }
    }
}
