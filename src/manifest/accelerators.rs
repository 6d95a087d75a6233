//! What accelerators a manifest asks for: how many, and of which kind, as written.
//!
//! Nothing is looked up here: `run` turns kinds into machines of the catalog. A kind that is not declared stays
//! absent and is never guessed.

use crate::fact::Fact;

/// The accelerators of one pod, container or node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Accelerators {
    /// How many one pod or container gets; visible-device lists already applied.
    pub count: Option<Fact<Count>>,
    /// Kinds it may run on, each an alternative to the others.
    pub kinds: Vec<AcceleratorKind>,
    /// The resource that counts them, where it is not `nvidia.com/gpu` (`amd.com/gpu`, `nvidia.com/mig-1g.10gb`).
    pub resource: Option<Fact<String>>,
}

/// How many accelerators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Whatever the host has.
    All,
    /// So many; 0 is a CPU deployment.
    Number(u64),
}

/// One kind of accelerator, by the name the manifest gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct AcceleratorKind {
    /// The key under which the value stands and which tells its meaning: a node label
    /// (`nvidia.com/gpu.product`), or `skypilot`, `ray`, `truss`, `instance-type`, ... as in
    /// `catalog/machines/labels.yaml`. `None` for a plain name.
    pub label: Option<String>,
    /// The value as written.
    pub name: Fact<String>,
    /// How many of this kind, where each alternative has its own number (`{L4: 4, H100: 1}`).
    pub count: Option<u64>,
}

impl Accelerators {
    /// The count, where it is a number.
    pub fn number(&self) -> Option<u64> {
        match self.count.as_ref()?.value {
            Count::Number(number) => Some(number),
            Count::All => None,
        }
    }

    /// True where the manifest asks for no accelerator in so many words.
    pub fn is_cpu(&self) -> bool {
        self.number() == Some(0)
    }
}
