//! How published weights are quantized, as config.json or GGUF metadata says.

/// A weight format with the numbers that decide its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantization {
    /// The method as engines name it: `gptq`, `awq`, `fp8`, `compressed-tensors`, `modelopt`, `mxfp4`,
    /// `bitsandbytes`, `mlx`, `q4_K_M`, ...
    pub method: String,
    /// Bits of one quantized weight, scales not counted.
    pub bits: f64,
    /// Weights that share a scale; `None` for per-tensor and per-channel scales.
    pub group_size: Option<u64>,
}

impl Quantization {
    /// A short name for reports: `awq int4`, `fp8`, `q4_K_M`.
    pub fn name(&self) -> String {
        let bits = self.bits;
        match self.method.as_str() {
            "gptq" | "awq" | "compressed-tensors" | "mlx" | "bitsandbytes" => {
                format!("{} int{bits:.0}", self.method)
            }
            method => method.to_owned(),
        }
    }
}
