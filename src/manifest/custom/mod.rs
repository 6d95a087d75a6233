//! Custom resources of operators that serve models, and option files of platforms: each knows its own keys, and hands
//! commands, pods and option texts to the readers that all formats share.

pub mod bento;
pub mod dynamo;
pub mod kaito;
pub mod kubeai;
pub mod llmaz;
pub mod llmkube;
pub mod nim;
pub mod ray;
pub mod ray_pods;
pub mod vllm_runtime;
