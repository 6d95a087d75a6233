//! oomlint: catches large-language-model deployments that will not fit, or will not start, before anyone
//! deploys them.
//!
//! ```text
//! paths -> walk -> source -> documents -> models, deployments, machines
//!                                 -> scenarios with estimates (facts)
//!                                 -> rules -> findings -> suppression -> report
//! ```

pub mod baseline;
pub mod changed;
pub mod cli;
pub mod config;
pub mod engine;
pub mod fact;
pub mod finding;
pub mod fingerprint;
pub mod fix;
pub mod hub;
pub mod lint;
pub mod lock;
pub mod machine;
pub mod manifest;
pub mod memory;
pub mod model;
mod nearest;
pub mod report;
pub mod rule;
pub mod run;
pub mod scenario;
pub mod source;
pub mod suppress;
pub mod trees;
pub mod walk;

pub use memory::kv::{KV_CACHE_ALLOC_STEP, KvCacheParams, kv_cache_bytes, kv_cache_bytes_from_params};
pub use memory::recommend::{HardwareCapabilities, QuantFormat, QuantRecommendation, recommend_quantization};
pub use model::advise::{QuantAdvice, advise_quantization};
