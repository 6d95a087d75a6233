//! Reports built by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use oomlint::engine::{Band, Engine, KvType, Settings};
use oomlint::fact::Fact;
use oomlint::finding::{Edit, Finding, Fix, Label, Severity};
use oomlint::machine::{Machine, MachineKind};
use oomlint::manifest::{Deployment, Format, WeightFormat};
use oomlint::memory::GIB;
use oomlint::memory::layout::{Cache, LayerGroup, Layout, Reach, State};
use oomlint::model::{Component, Dims, Dtype, Model, ModelSource, Parameters, Refusal, Weights};
use oomlint::report::{Deployed, Report, RuleSummary, Summary};
use oomlint::scenario::{Estimate, Recommended, Scenario, Verdict};
use oomlint::source::{SourceFile, Sources, Span};

pub(crate) const MANIFEST: &str = "\
oomlint: 1
deployments:
  - name: chat
    model: ./models/llama-3.1-8b
    engine: vllm
    engine_version: \"0.33.0\"
    machines: [m4-24gb, \"2x l4\"]
    context: [8k, 128k]
    kv_cache: fp16
    args: [\"--tensor-parallel-size\", \"2\"]
  - name: draft
    model: ./models/nowhere
    machines: [m4-24gb]
    context: 1m   # oomlint: ignore[context-exceeds-model-maximum] tried on purpose
";

pub(crate) const CONFIG: &str = "\
{
  \"architectures\": [\"LlamaForCausalLM\"],
  \"num_hidden_layers\": 32,
  \"num_key_value_heads\": 8,
  \"max_position_embeddings\": 131072
}
";

/// The first occurrence of `needle` in a file.
pub(crate) fn span(file: &SourceFile, needle: &str) -> Span {
    let start = file.text().find(needle).unwrap();
    file.span(start..start + needle.len())
}

pub(crate) fn label(file: &SourceFile, needle: &str, text: &str) -> Label {
    Label {
        span: span(file, needle),
        text: text.to_owned(),
    }
}

/// A report about nothing.
pub(crate) fn empty() -> Report {
    Report {
        sources: Arc::new(Sources::default()),
        summary: Summary::default(),
        models: Vec::new(),
        deployments: Vec::new(),
        machines: Vec::new(),
        scenarios: Vec::new(),
        findings: Vec::new(),
        rules: Vec::new(),
    }
}

/// Counts what the report holds, as the pipeline does.
pub(crate) fn with_summary(mut report: Report) -> Report {
    let severity = |wanted: Severity| {
        report
            .shown()
            .filter(|finding| finding.severity == wanted)
            .count()
    };
    report.summary = Summary {
        files: 2,
        models: report.models.len(),
        manifests: 1,
        deployments: report.deployments.len(),
        scenarios: report.scenarios.len(),
        errors: severity(Severity::Error),
        warnings: severity(Severity::Warning),
        infos: severity(Severity::Info),
        suppressed: report.findings.len() - report.shown().count(),
        duration_ms: 7,
    };
    report
}

/// Two deployments, one model that is found, five scenarios, findings of every kind.
pub(crate) fn report() -> Report {
    let sources = Arc::new(Sources::default());
    let manifest = sources.add("deploy/chat.yaml", MANIFEST);
    let config = sources.add("models/llama-3.1-8b/config.json", CONFIG);
    with_summary(Report {
        models: vec![llama(&config), refused()],
        deployments: vec![chat(&manifest), draft(&manifest)],
        machines: vec![mac(), l4()],
        scenarios: scenarios(),
        findings: findings(&manifest, &config),
        rules: vec![RuleSummary {
            id: "kv-cache-does-not-fit".to_owned(),
            summary: "The KV cache of the declared context does not fit beside the weights.".to_owned(),
            severity: Severity::Error,
            why: "An engine that cannot place one request **stops at start-up**.\n".to_owned(),
            references: vec!["https://docs.vllm.ai/en/stable/".to_owned()],
        }],
        sources,
        ..empty()
    })
}

fn findings(manifest: &SourceFile, config: &SourceFile) -> Vec<Finding> {
    let mut kv = Finding::at(
        "kv-cache-does-not-fit",
        Severity::Error,
        "one request of 131,072 tokens needs 16.0 GiB of KV cache, 6.4 GiB is left on m4-24gb",
        label(manifest, "128k", "131,072 tokens"),
    )
    .with_related(span(manifest, "m4-24gb"), "22.9 GiB usable")
    .with_related(span(manifest, "./models/llama-3.1-8b"), "15.0 GiB of weights")
    .with_related(span(config, "8"), "8 KV heads")
    .with_help(
        "the largest context that fits is 41,216 tokens; with `--kv-cache-dtype fp8`, 82,432; on one \
         a100-sxm-80gb, all 131,072\n  context  needs     has\n  128k     31.9 GiB  22.9 GiB",
    );
    kv.deployment = Some(0);
    kv.scenarios = vec![1];
    kv.fact = Some("scenario.context");
    kv.fix = Some(Fix {
        safe: false,
        edits: vec![Edit {
            span: span(manifest, "128k"),
            text: "41216".to_owned(),
        }],
    });
    let warning = Finding::at(
        "unified-memory-working-set-exceeded",
        Severity::Warning,
        "chat needs 18.2 GiB, macOS lets the GPU use 16.0 GiB",
        label(manifest, "m4-24gb", ""),
    );
    let missing = Finding::about(
        "model-not-found",
        Severity::Error,
        "no config.json and no GGUF file here",
        "models/nowhere",
    )
    .with_help("the nearest model directory is models/llama-3.1-8b");
    let mut silenced = Finding::at(
        "context-exceeds-model-maximum",
        Severity::Error,
        "1,048,576 tokens, the model was made for 131,072",
        label(manifest, "1m", "1,048,576 tokens"),
    );
    silenced.suppressed = Some("tried on purpose".to_owned());
    vec![kv, warning, silenced, missing]
}

pub(crate) fn deployment(file: &SourceFile, name: &str, whole: &str) -> Deployment {
    let name = Fact::at(name.to_owned(), span(file, name));
    Deployment::new(name, file.id(), span(file, whole), Format::Own)
}

fn chat(file: &SourceFile) -> Deployed {
    let at = |needle: &str| span(file, needle);
    let mut settings = Settings::default();
    settings.set("tensor_parallel", Fact::at("2".to_owned(), at("\"2\"")));
    settings.set(
        "memory_fraction",
        Fact::default("0.92".to_owned(), "vLLM's default"),
    );
    Deployed {
        deployment: Deployment {
            engine: Some(Fact::at(Engine::Vllm, at("vllm"))),
            engine_version: Some(Fact::at("0.33.0".to_owned(), at("0.33.0"))),
            model: Some(Fact::at(
                "./models/llama-3.1-8b".to_owned(),
                at("./models/llama-3.1-8b"),
            )),
            machines: vec![
                Fact::at("m4-24gb".to_owned(), at("m4-24gb")),
                Fact::at("2x l4".to_owned(), at("2x l4")),
            ],
            context: vec![Fact::at(8192, at("8k")), Fact::at(131_072, at("128k"))],
            kv_cache: vec![Fact::at(KvType::F16, at("fp16"))],
            quantization: Some(Fact::default(WeightFormat::Auto, "oomlint's default")),
            settings,
            unresolved: vec!["replicas".to_owned()],
            ..deployment(file, "chat", "name: chat")
        },
        model: Some(0),
    }
}

fn draft(file: &SourceFile) -> Deployed {
    Deployed {
        deployment: Deployment {
            model: Some(Fact::at(
                "./models/nowhere".to_owned(),
                span(file, "./models/nowhere"),
            )),
            ..deployment(file, "draft", "name: draft")
        },
        model: None,
    }
}

pub(crate) fn layout() -> Layout {
    Layout {
        num_layers: 48,
        nextn_layers: 0,
        groups: vec![
            LayerGroup {
                cache: Cache::Attention {
                    kv_heads: 8,
                    k_dim: 128,
                    v_dim: 128,
                    reach: Reach::Full,
                },
                layers: (0..8).collect(),
            },
            LayerGroup {
                cache: Cache::Attention {
                    kv_heads: 4,
                    k_dim: 192,
                    v_dim: 128,
                    reach: Reach::Window(4096),
                },
                layers: (8..24).collect(),
            },
            LayerGroup {
                cache: Cache::Latent {
                    rank: 512,
                    rope_dim: 64,
                },
                layers: (24..32).collect(),
            },
            LayerGroup {
                cache: Cache::Recurrent {
                    state: State::Mamba2 {
                        inner: 4096,
                        groups: 8,
                        state: 128,
                        heads: 64,
                        head_dim: 64,
                        conv_kernel: 4,
                    },
                    state_element_bytes: Some(4),
                },
                layers: (32..48).collect(),
            },
        ],
    }
}

fn llama(config: &SourceFile) -> Model {
    Model {
        name: "llama-3.1-8b".to_owned(),
        path: "models/llama-3.1-8b".to_owned(),
        source: ModelSource::Directory,
        architecture: Some(Fact::at(
            "LlamaForCausalLM".to_owned(),
            span(config, "LlamaForCausalLM"),
        )),
        model_type: Some(Fact::default("llama".to_owned(), "the architecture's")),
        dims: Dims::default(),
        dtype: Some(Fact::default(Dtype::Bfloat16, "the headers'")),
        max_context: Some(Fact::at(131_072, span(config, "131072"))),
        longest_context: None,
        census: None,
        quantization: None,
        layout: Ok(layout()),
        parameters: Some(Parameters {
            count: 8_030_261_248,
            exact: true,
            how: "tensor shapes",
        }),
        weights: Weights {
            tied_bytes: 0,
            bytes: Some(16_060_522_496),
            exact: true,
            how: "safetensors headers",
            by_dtype: BTreeMap::from([("BF16".to_owned(), 16_060_522_496)]),
            by_component: BTreeMap::from([
                (Component::Embedding, 1_050_673_152),
                (Component::Attention, 2_684_354_560),
            ]),
        },
        gguf: None,
        config: None,
        assumptions: Vec::new(),
        bytes_read: 1234,
    }
}

fn refused() -> Model {
    Model {
        name: "mystery".to_owned(),
        path: "models/mystery".to_owned(),
        source: ModelSource::HubCache,
        architecture: None,
        model_type: None,
        dims: Dims::default(),
        dtype: None,
        max_context: None,
        longest_context: None,
        census: None,
        quantization: None,
        layout: Err(Refusal {
            reason: "config.json has no num_hidden_layers".to_owned(),
            span: None,
        }),
        parameters: None,
        weights: Weights::default(),
        gguf: None,
        config: None,
        assumptions: Vec::new(),
        bytes_read: 0,
    }
}

fn mac() -> Machine {
    Machine {
        id: "m4-24gb".to_owned(),
        kind: MachineKind::AppleSilicon,
        count: 1,
        memory_bytes: 24 * GIB,
        runtime_memory_bytes: None,
        unified_memory: true,
        compute_capability: None,
        working_set_bytes: Some(16 * GIB),
        apple_generation: Some(4),
        macos: None,
        bandwidth: None,
        provenance: "written for a test".to_owned(),
    }
}

fn l4() -> Machine {
    Machine {
        id: "l4".to_owned(),
        kind: MachineKind::Nvidia,
        count: 2,
        memory_bytes: 23_034 << 20,
        unified_memory: false,
        compute_capability: Some((8, 9)),
        working_set_bytes: None,
        apple_generation: None,
        ..mac()
    }
}

pub(crate) fn scenario(context: u64, kv_gib: u64, verdict: Verdict) -> Scenario {
    let weights = 15 * GIB;
    let overhead = Band {
        low: GIB / 2,
        likely: GIB,
        high: 2 * GIB,
    };
    let kv = kv_gib * GIB;
    Scenario {
        accelerators: 1,
        alternatives: None,
        machine_name: None,
        deployment: 0,
        model: Some(0),
        machine: Some(0),
        context,
        batch: 1,
        kv_cache: KvType::F16,
        quantization: "fp16".to_owned(),
        estimate: Some(Estimate {
            weights_bytes: weights,
            kv_cache_logical_bytes: kv,
            kv_cache_bytes: kv,
            state_bytes: GIB / 4,
            overhead,
            required_bytes: weights + kv + GIB / 4 + overhead.likely,
            usable_bytes: 22 * GIB + GIB / 10,
            memory_bytes: 24 * GIB,
            verdict,
            host_bytes: 0,
            kv_cache_tokens: Some(49_152),
            max_concurrency: Some(6.5),
            max_sequences: None,
            state_slots: None,
            state_slots_at_most: None,
        }),
        recommended: Some(Recommended {
            needed_bytes: 0,
            available_bytes: 0,
            name: "fp16".to_owned(),
            fits: true,
        }),
        largest_context: Some(41_216),
        assumptions: Vec::new().into(),
    }
}

fn scenarios() -> Vec<Scenario> {
    let recommended = |name: &str, fits| {
        Some(Recommended {
            needed_bytes: 0,
            available_bytes: 0,
            name: name.to_owned(),
            fits,
        })
    };
    vec![
        scenario(8192, 1, Verdict::Fits),
        Scenario {
            recommended: recommended("int4", false),
            assumptions: vec!["macOS 26.2 or later".to_owned()].into(),
            ..scenario(131_072, 16, Verdict::Exceeds)
        },
        Scenario {
            machine: Some(1),
            recommended: recommended("int8", true),
            ..scenario(131_072, 5, Verdict::LikelyFits)
        },
        Scenario {
            machine: None,
            ..scenario(8192, 6, Verdict::LikelyExceeds)
        },
        Scenario {
            deployment: 1,
            model: None,
            estimate: None,
            recommended: None,
            largest_context: None,
            ..scenario(1 << 20, 0, Verdict::Unknown)
        },
    ]
}

/// Files and words that try to break a terminal, a table, a workflow command or a JSON text.
pub(crate) fn hostile() -> Report {
    let sources = Arc::new(Sources::default());
    let bom = sources.add(
        "a b/\u{1b}[31m,x::y%.yaml",
        "\u{feff}oomlint: 1\r\nname: \u{1b}[2J\u{202e}evil\u{9b}\r\nmodel: 漢字 # tail\r\n",
    );
    let long = sources.add(
        "min.json",
        format!(
            "{{{}\"layers\": 99, {}\"heads\": 8}}",
            "\"k\": 1, ".repeat(700),
            "\"k\": 2, ".repeat(700)
        ),
    );
    let block = sources.add("block.yaml", "a:\n  b: 1\n  c: 2\nd: 3\n");
    let tall = sources.add("tall.yaml", format!("top:\n{}end: 1\n", "  - x\n".repeat(40)));
    let mut bidi = Finding::at(
        "unknown-key",
        Severity::Warning,
        "unknown key \u{1b}[2Jevil | `x` <b>bold</b> 100%\r\n::error::injected",
        label(
            &bom,
            "\u{1b}[2J\u{202e}evil\u{9b}",
            "did you mean \u{202e}name\u{1b}]8;;x\u{7}?",
        ),
    )
    .with_related(span(&bom, "漢字"), "wide");
    bidi.help = Some("line one\nline two | with a bar\n".to_owned());
    let first = Finding::at(
        "file-unreadable",
        Severity::Info,
        "begins with a byte-order mark",
        Label {
            span: bom.span(0..3),
            text: "here".to_owned(),
        },
    );
    let minified = Finding::at(
        "config-incomplete",
        Severity::Error,
        "99 layers in one line",
        label(&long, "99", "99 layers"),
    )
    .with_related(span(&long, "\"heads\": 8"), "8 heads");
    let lines = Finding::at(
        "yaml-invalid",
        Severity::Error,
        "a block of several lines",
        label(&block, "a:\n  b: 1\n  c: 2\n", "this block"),
    )
    .with_related(span(&block, "b: 1"), "inside it");
    let whole = Finding::at(
        "yaml-invalid",
        Severity::Error,
        "a block of too many lines",
        Label {
            span: tall.span(0..tall.text().len() - 8),
            text: "starts here".to_owned(),
        },
    )
    .with_related(span(&tall, "end: 1"), "far below");
    let end = Finding::at(
        "yaml-invalid",
        Severity::Error,
        "unexpected end of the file",
        Label {
            span: block.span(9999..9999),
            text: "at the end".to_owned(),
        },
    );
    with_summary(Report {
        sources,
        findings: vec![bidi, first, minified, lines, whole, end],
        ..empty()
    })
}
