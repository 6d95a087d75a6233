//! What an engine refuses of weights and KV types, whatever the memory.
//!
//! In: a request. Out: contradictions that name the two facts. Which formats an engine loads is data
//! (`catalog/engines/quantization.yaml`); what its KV cache takes is in the engine's own file.

use std::sync::OnceLock;

use serde::Deserialize;

use super::{Contradiction, Engine, KvType, Request, Version};
use crate::machine::MachineKind;
use crate::model::{ModelSource, Quantization};

const CATALOG: &str = include_str!("../../catalog/engines/quantization.yaml");

/// One row as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    engine: String,
    methods: Vec<String>,
    /// The least compute capability of NVIDIA accelerators; absent where the engine never loads the format.
    #[serde(default)]
    min_capability: Option<String>,
    /// The row holds for releases before this one; rows without it hold for all others, and where none is declared.
    #[serde(default)]
    before: Option<String>,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "provenance, for readers of the catalog")
    )]
    source: String,
}

/// The rows, read once. A catalog that cannot be read is empty; a test keeps it readable.
fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| serde_saphyr::from_str(CATALOG).unwrap_or_default())
}

/// Why an engine refuses a KV type for this model on this machine. For llama.cpp the type is that of the keys.
pub fn kv_type(engine: Engine, request: &Request<'_>, kv: KvType) -> Option<Contradiction> {
    match engine {
        Engine::Vllm => super::vllm::kv_contradiction(request, kv),
        Engine::Sglang => super::sglang::kv_contradiction(kv),
        Engine::Tgi => super::tgi::kv_contradiction(kv),
        Engine::TensorrtLlm => super::tensorrt_llm::kv_contradiction(kv),
        Engine::LlamaCpp => super::llama_cpp::kv_contradiction(request, kv),
        Engine::Ollama | Engine::Mlx | Engine::Transformers => None,
    }
}

/// Why an engine cannot load the weights of a request on its machine.
pub(super) fn weights(engine: Engine, request: &Request<'_>) -> Option<Contradiction> {
    let format = request.format?;
    let published = request.model.quantization.as_ref().map(|fact| &fact.value) == Some(format);
    let is_gguf = published && request.model.source == ModelSource::Gguf;
    let (method, name) = if is_gguf {
        ("gguf", "a GGUF file".to_owned())
    } else {
        (method_of(format), format!("{} weights", format.name()))
    };
    let release = |row: &Row| match (row.before.as_deref(), request.version) {
        (None, _) => true,
        (Some(before), Some(version)) => Version::parse(before).is_some_and(|before| version < before),
        (Some(_), None) => false,
    };
    let mine = |row: &&Row| {
        row.engine == engine.name() && row.methods.iter().any(|known| known == method) && release(row)
    };
    let row = rows().iter().find(mine)?;
    let settings = vec![if published {
        "model.quantization"
    } else {
        "quantization"
    }];
    let Some(least) = row.min_capability.as_deref() else {
        return Some(Contradiction {
            rule: "mlx-or-foreign-checkpoint",
            message: format!("{} does not load {name} ({})", engine.name(), request.model.name),
            settings,
        });
    };
    let (major, minor) = request
        .machine
        .compute_capability
        .filter(|_| request.machine.kind == MachineKind::Nvidia)?;
    let needed = capability(least)?;
    ((major, minor) < needed).then(|| Contradiction {
        rule: "quant-unsupported-on-gpu",
        message: format!(
            "{name} ({}) need compute capability {least}, {} has {major}.{minor}",
            request.model.name, request.machine.id
        ),
        settings,
    })
}

/// The row's name for a format.
fn method_of(format: &Quantization) -> &str {
    match format.method.as_str() {
        "modelopt" | "modelopt_fp4" | "compressed-tensors" if format.element() == "nvfp4" => "nvfp4",
        "modelopt" if format.bits >= 8.0 && format.float => "fp8",
        method => method,
    }
}

fn capability(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fixtures::{attention, h100, model, settings};
    use crate::fact::Fact;
    use crate::machine::Machine;
    use crate::memory::layout::Reach;

    fn refused(engine: Engine, method: &str, bits: f64, capability: (u32, u32)) -> Option<String> {
        let format = Quantization {
            method: method.to_owned(),
            bits,
            group_size: (bits < 5.0).then_some(16),
            float: true,
        };
        let mut model = model(&[(attention(8, 128, Reach::Full), 2)]);
        model.quantization = Some(Fact::default(format.clone(), "a test's"));
        let machine = Machine {
            compute_capability: Some(capability),
            ..h100()
        };
        let request = Request {
            model: &model,
            machine: &machine,
            version: None,
            settings: &settings(&[]),
            weights_bytes: 1,
            format: Some(&format),
        };
        weights(engine, &request).map(|found| found.message)
    }

    #[test]
    fn every_row_names_an_engine_and_its_source() {
        let rows: Vec<Row> = serde_saphyr::from_str(CATALOG).unwrap();
        assert!(rows.len() > 10);
        for row in rows {
            assert!(Engine::parse(&row.engine).is_some(), "{}", row.engine);
            assert!(row.source.len() > 20, "{}", row.engine);
            assert!(row.min_capability.is_none_or(|text| capability(&text).is_some()));
            assert!(row.before.is_none_or(|text| Version::parse(&text).is_some()));
        }
    }

    #[test]
    fn formats_below_an_accelerators_capability_are_refused_with_both_figures() {
        let message = refused(Engine::Vllm, "mxfp4", 4.0, (7, 5)).unwrap();
        assert!(message.contains("need compute capability 8.0"), "{message}");
        assert!(message.ends_with("has 7.5"), "{message}");
        assert_eq!(refused(Engine::Vllm, "mxfp4", 4.0, (8, 6)), None);
        assert!(refused(Engine::TensorrtLlm, "modelopt", 4.0, (9, 0)).is_some());
        assert_eq!(refused(Engine::TensorrtLlm, "modelopt", 8.0, (9, 0)), None);
    }

    #[test]
    fn formats_that_an_engine_has_no_loader_for_are_refused_everywhere() {
        assert!(refused(Engine::Sglang, "mlx", 8.0, (10, 0)).is_some());
        assert_eq!(refused(Engine::Mlx, "mlx", 8.0, (10, 0)), None);
    }
}
