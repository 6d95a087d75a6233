//! Which quantization to serve with on an MLX-family runtime, decided in whole GB as that runtime decides it.
//!
//! In: parameters, memory, what the chip can do, KV bytes. Out: a format and whether it fits.

use super::GIB;

/// What the hardware can do, as far as the choice of a quantization depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardwareCapabilities {
    /// Unified memory, in whole GB as the machine is sold (1 GB = 2^30 bytes).
    pub unified_memory_gb: u32,
    /// True for chips with a Neural Accelerator in the GPU: M5 and later.
    pub has_neural_accelerator: bool,
    /// True when macOS can use it: 26.2 and later.
    pub macos_supports_na: bool,
}

impl HardwareCapabilities {
    /// The first macOS release, major and minor, whose Metal uses the Neural Accelerator.
    pub const MACOS_WITH_NEURAL_ACCELERATOR: (u32, u32) = (26, 2);
    /// The first Apple chip generation with a Neural Accelerator in its GPU (M5).
    pub const CHIP_WITH_NEURAL_ACCELERATOR: u32 = 5;

    /// Capabilities of an Apple computer: `generation` is the number after the M, `macos` major and minor.
    pub fn apple(generation: u32, unified_memory_gb: u32, macos: (u32, u32)) -> Self {
        Self {
            unified_memory_gb,
            has_neural_accelerator: generation >= Self::CHIP_WITH_NEURAL_ACCELERATOR,
            macos_supports_na: macos >= Self::MACOS_WITH_NEURAL_ACCELERATOR,
        }
    }

    /// True when 8-bit weights run on the Neural Accelerator.
    pub fn uses_neural_accelerator(&self) -> bool {
        self.has_neural_accelerator && self.macos_supports_na
    }
}

/// A weight format that the MLX-family runtime can quantize to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuantFormat {
    /// 4 bits per weight.
    Int4,
    /// 8 bits per weight.
    Int8,
    /// 16 bits per weight.
    Fp16,
}

impl QuantFormat {
    /// Bits per weight, group scales not counted.
    pub fn bits(self) -> u32 {
        match self {
            Self::Int4 => 4,
            Self::Int8 => 8,
            Self::Fp16 => 16,
        }
    }

    /// The name in manifests and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::Fp16 => "fp16",
        }
    }
}

/// Why a format was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The Neural Accelerator runs 8-bit weights at about twice the 16-bit rate, and they fit.
    NeuralAcceleratorPrefersInt8,
    /// 16-bit weights fit: nothing to give up.
    Fp16Fits,
    /// Only 4-bit weights fit.
    OnlyInt4Fits,
    /// Not even 4-bit weights fit.
    NothingFits,
}

/// The best format, and whether it fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantRecommendation {
    /// The format. int4 when nothing fits.
    pub format: QuantFormat,
    /// False when even the recommended format needs more than the memory.
    pub fits: bool,
    /// GB that the format needs with the KV cache, as the runtime rounds: weights and KV each up.
    pub needed_gb: u64,
    /// GB set aside for the KV cache.
    pub kv_cache_gb: u64,
    /// Why.
    pub reason: Reason,
}

/// GB kept for the KV cache when the architecture is unknown.
pub const KV_CACHE_FALLBACK_GB: u64 = 2;

/// Parameters, in billions, assumed when nothing tells them.
pub const FALLBACK_PARAMS_BILLIONS: f64 = 7.0;

/// The best quantization for a model of `params_billions` in `available_memory_gb` GB (2^30 bytes).
///
/// `kv_cache_headroom_bytes` is the KV cache to leave room for, counted as whole GB rounded up; `None`, for an
/// unknown architecture, keeps [`KV_CACHE_FALLBACK_GB`]. A format needs `ceil(params x bits / 8)` GB plus that.
/// With a Neural Accelerator: int8 if it fits, else int4. Otherwise fp16 if it fits, else int4. When int4 does
/// not fit either it is still the recommendation, with `fits: false`.
pub fn recommend_quantization(
    params_billions: f64,
    available_memory_gb: u32,
    hardware: &HardwareCapabilities,
    kv_cache_headroom_bytes: Option<u64>,
) -> QuantRecommendation {
    let kv_cache_gb = kv_cache_headroom_bytes.map_or(KV_CACHE_FALLBACK_GB, |bytes| bytes.div_ceil(GIB));
    let available = u64::from(available_memory_gb);
    let need = |format: QuantFormat| weights_gb(params_billions, format).saturating_add(kv_cache_gb);
    let choose = |format, fits, reason| QuantRecommendation {
        format,
        fits,
        needed_gb: need(format),
        kv_cache_gb,
        reason,
    };
    let (best, reason) = if hardware.uses_neural_accelerator() {
        (QuantFormat::Int8, Reason::NeuralAcceleratorPrefersInt8)
    } else {
        (QuantFormat::Fp16, Reason::Fp16Fits)
    };
    if need(best) <= available {
        choose(best, true, reason)
    } else if need(QuantFormat::Int4) <= available {
        choose(QuantFormat::Int4, true, Reason::OnlyInt4Fits)
    } else {
        choose(QuantFormat::Int4, false, Reason::NothingFits)
    }
}

/// GB of the weights, rounded up. A count that is not a number needs more than any memory.
fn weights_gb(params_billions: f64, format: QuantFormat) -> u64 {
    let gb = (params_billions * f64::from(format.bits()) / 8.0).ceil();
    if gb.is_finite() && params_billions >= 0.0 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked above; the cast saturates"
        )]
        let whole = gb as u64;
        whole
    } else {
        u64::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::kv::kv_cache_bytes;

    const M4: HardwareCapabilities = HardwareCapabilities {
        unified_memory_gb: 24,
        has_neural_accelerator: false,
        macos_supports_na: true,
    };

    fn formats(
        params: f64,
        memory: u32,
        hardware: &HardwareCapabilities,
        kv: Option<u64>,
    ) -> (QuantFormat, bool) {
        let found = recommend_quantization(params, memory, hardware, kv);
        (found.format, found.fits)
    }

    #[test]
    fn eight_billion_on_24_gb_is_fp16_at_8k_and_int4_at_128k() {
        let kv = |ctx| Some(kv_cache_bytes(32, 8, 128, 2, ctx, 1));
        assert_eq!(formats(8.0, 24, &M4, kv(8192)), (QuantFormat::Fp16, true));
        assert_eq!(formats(8.0, 24, &M4, kv(131_072)), (QuantFormat::Int4, true));
    }

    #[test]
    fn a_neural_accelerator_prefers_int8_only_on_macos_26_2_and_later() {
        let m5 = |memory, macos| HardwareCapabilities::apple(5, memory, macos);
        assert_eq!(
            formats(7.0, 32, &m5(32, (26, 2)), None),
            (QuantFormat::Int8, true)
        );
        assert_eq!(
            formats(70.0, 64, &m5(64, (26, 2)), None),
            (QuantFormat::Int4, true)
        );
        assert_eq!(
            formats(7.0, 32, &m5(32, (26, 1)), None),
            (QuantFormat::Fp16, true)
        );
        assert_eq!(
            formats(7.0, 32, &m5(32, (27, 0)), None),
            (QuantFormat::Int8, true)
        );
        assert_eq!(
            formats(7.0, 32, &HardwareCapabilities::apple(4, 32, (26, 2)), None),
            (QuantFormat::Fp16, true)
        );
    }

    #[test]
    fn int4_stays_the_recommendation_when_nothing_fits_and_says_so() {
        let found = recommend_quantization(30.0, 16, &M4, None);
        assert_eq!(
            (found.format, found.fits, found.reason),
            (QuantFormat::Int4, false, Reason::NothingFits)
        );
        assert_eq!(found.needed_gb, 17);
    }

    #[test]
    fn an_unknown_architecture_keeps_two_gb_and_a_known_one_rounds_up() {
        assert_eq!(recommend_quantization(1.0, 64, &M4, None).kv_cache_gb, 2);
        assert_eq!(recommend_quantization(1.0, 64, &M4, Some(1)).kv_cache_gb, 1);
        assert_eq!(recommend_quantization(1.0, 64, &M4, Some(GIB + 1)).kv_cache_gb, 2);
        assert_eq!(recommend_quantization(1.0, 64, &M4, Some(0)).kv_cache_gb, 0);
    }

    #[test]
    fn numbers_that_are_not_numbers_never_fit() {
        for params in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(!recommend_quantization(params, 512, &M4, None).fits, "{params}");
        }
        assert!(!recommend_quantization(1.0, 64, &M4, Some(u64::MAX)).fits);
    }
}
