//! Kubernetes objects: where each kind keeps its pods, and what it adds to them.

pub mod accelerators;
pub mod merge;
pub mod pod;
