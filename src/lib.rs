//! oomlint: catches large-language-model deployments that will not fit, or will not start, before anyone
//! deploys them.
//!
//! ```text
//! paths -> walk -> source -> documents -> models, deployments, machines
//!                                 -> scenarios with estimates (facts)
//!                                 -> rules -> findings -> suppression -> report
//! ```

pub mod engine;
pub mod fact;
pub mod finding;
pub mod machine;
pub mod manifest;
pub mod memory;
pub mod model;
pub mod report;
pub mod scenario;
pub mod source;

pub use memory::kv::{KV_CACHE_ALLOC_STEP, KvCacheParams, kv_cache_bytes, kv_cache_bytes_from_params};
pub use memory::recommend::{HardwareCapabilities, QuantFormat, QuantRecommendation, recommend_quantization};
