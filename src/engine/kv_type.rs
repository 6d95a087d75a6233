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
    /// 8-bit integer with one fp32 scale per token, head and side (vLLM `int8_per_token_head`).
    Int8PerTokenHead,
    /// 8-bit float with one fp32 scale per token, head and side (vLLM `fp8_per_token_head`).
    Fp8PerTokenHead,
    /// 4-bit integer with one fp32 scale per token, head and side (vLLM `int4_per_token_head`).
    Int4PerTokenHead,
    /// vLLM `turboquant_k8v4`: 8-bit keys, 4-bit values.
    TurboK8V4,
    /// vLLM `turboquant_4bit_nc`: 4-bit keys and values.
    Turbo4Bit,
    /// vLLM `turboquant_k3v4_nc`: 3-bit keys, 4-bit values.
    TurboK3V4,
    /// vLLM `turboquant_3bit_nc`: 3-bit keys and values.
    Turbo3Bit,
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
    pub const ALL: [Self; 21] = [
        Self::Auto,
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Int8,
        Self::Fp8,
        Self::Int4,
        Self::Nvfp4,
        Self::Int8PerTokenHead,
        Self::Fp8PerTokenHead,
        Self::Int4PerTokenHead,
        Self::TurboK8V4,
        Self::Turbo4Bit,
        Self::TurboK3V4,
        Self::Turbo3Bit,
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
            Self::Int8PerTokenHead => "int8_per_token_head",
            Self::Fp8PerTokenHead => "fp8_per_token_head",
            Self::Int4PerTokenHead => "int4_per_token_head",
            Self::TurboK8V4 => "turboquant_k8v4",
            Self::Turbo4Bit => "turboquant_4bit_nc",
            Self::TurboK3V4 => "turboquant_k3v4_nc",
            Self::Turbo3Bit => "turboquant_3bit_nc",
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
                "fp8" | "fp8_e4m3" | "fp8_e5m2" | "fp8_e4m3fn" | "fp8_inc" | "fp8_ds_mla" | "f8" => Self::Fp8,
                "int4" | "i4" | "4bit" | "q4" => Self::Int4,
                "nvfp4" | "nvfp4_4over6" | "nvfp4_ds_mla" | "fp4" => Self::Nvfp4,
                "int8_per_token_head" => Self::Int8PerTokenHead,
                "fp8_per_token_head" => Self::Fp8PerTokenHead,
                "int4_per_token_head" => Self::Int4PerTokenHead,
                "turboquant_k8v4" => Self::TurboK8V4,
                "turboquant_4bit_nc" => Self::Turbo4Bit,
                "turboquant_k3v4_nc" => Self::TurboK3V4,
                "turboquant_3bit_nc" => Self::Turbo3Bit,
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

    /// Bytes of one token's key and value of one head, scales per token and head included (vLLM
    /// `v1/kv_cache_interface.py` and the quantizers' `real_page_size_bytes`, 0.33). Turboquant packs a key in
    /// whole bytes (plus 2 below 8 bits), a value in whole bytes plus 4, and rounds the pair up to even.
    pub fn head_bytes(self, k_dim: u64, v_dim: u64) -> u64 {
        let turbo = |key_bits: u64, value_bits: u64| {
            let key = if key_bits == 8 {
                k_dim
            } else {
                packed(k_dim, key_bits).saturating_add(2)
            };
            let value = packed(v_dim, value_bits).saturating_add(4);
            crate::memory::round_up(key.saturating_add(value), 2)
        };
        match self {
            Self::TurboK8V4 => turbo(8, 4),
            Self::Turbo4Bit => turbo(4, 4),
            Self::TurboK3V4 => turbo(3, 4),
            Self::Turbo3Bit => turbo(3, 3),
            Self::Int8PerTokenHead | Self::Fp8PerTokenHead | Self::Int4PerTokenHead => {
                let scales = 8;
                self.row_bytes(k_dim)
                    .saturating_add(self.row_bytes(v_dim))
                    .saturating_add(scales)
            }
            _ => self.row_bytes(k_dim).saturating_add(self.row_bytes(v_dim)),
        }
    }

    /// True for vLLM's turboquant types.
    pub fn is_turboquant(self) -> bool {
        matches!(
            self,
            Self::TurboK8V4 | Self::Turbo4Bit | Self::TurboK3V4 | Self::Turbo3Bit
        )
    }

    /// Elements of one block and its bytes; scales per head and token are in [`Self::head_bytes`] only.
    pub fn block(self) -> (u64, u64) {
        match self {
            Self::F32 => (1, 4),
            Self::Auto | Self::F16 | Self::Bf16 => (1, 2),
            Self::Int8 | Self::Fp8 | Self::Int8PerTokenHead | Self::Fp8PerTokenHead | Self::TurboK8V4 => {
                (1, 1)
            }
            Self::Int4 | Self::Int4PerTokenHead | Self::Turbo4Bit | Self::TurboK3V4 | Self::Turbo3Bit => {
                (2, 1)
            }
            Self::Nvfp4 => (16, 9),
            Self::Q8_0 => (32, 34),
            Self::Q5_1 => (32, 24),
            Self::Q5_0 => (32, 22),
            Self::Q4_1 => (32, 20),
            Self::Q4_0 | Self::Iq4Nl => (32, 18),
        }
    }
}

/// Bytes of `elements` of `bits` each, packed.
fn packed(elements: u64, bits: u64) -> u64 {
    elements.saturating_mul(bits).div_ceil(8)
}
