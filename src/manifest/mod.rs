//! Manifests: files that declare deployments. One file a format; each gives [`Deployment`]s.
//!
//! In: a tree with spans, and the [`World`] of the other files of the run. Out: what the file declares, every value
//! with its characters, and findings for what could not be understood. Nothing is resolved here: model names,
//! machine names and engine defaults are the business of the stages after.

mod accelerators;
pub mod command;
pub mod compose;
pub mod container;
pub mod custom;
pub mod dstack;
mod filled;
#[cfg(test)]
mod fixtures;
mod keys;
pub mod kubernetes;
pub mod llama_swap;
pub mod local_ai;
pub mod modelfile;
pub mod option_files;
pub mod own;
mod plain_keys;
pub mod read;
pub mod skypilot;
pub mod surroundings;
pub mod tabby;
pub mod truss;
pub mod values;
mod world;

pub use accelerators::{AcceleratorKind, Accelerators, Count};
pub use filled::Filled;
pub(crate) use world::normal;
pub use world::{Object, Parsed, World};

use crate::engine::{Engine, KvType, Settings};
use crate::fact::Fact;
use crate::finding::Finding;
use crate::machine::Machine;
use crate::source::tree::Node;
use crate::source::{FileId, SourceFile, Span};

/// The format a manifest is written in. One row of [`READERS`] each; the order is that of the rows, and a document
/// belongs to the first that recognizes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// oomlint's own.
    Own,
    /// Kubernetes pod templates, wherever they are nested.
    Kubernetes,
    /// LeaderWorkerSet.
    LeaderWorkerSet,
    /// RoleBasedGroup.
    RoleBasedGroup,
    /// KServe InferenceService.
    KserveInference,
    /// KServe ServingRuntime and ClusterServingRuntime.
    KserveRuntime,
    /// KServe LLMInferenceService and its configs.
    KserveLlm,
    /// Docker compose.
    Compose,
    /// Ollama Modelfile.
    Modelfile,
    /// Flux HelmRelease and Argo Application with inline values.
    HelmRelease,
    /// Values of the vLLM production-stack chart.
    ProductionStack,
    /// The production-stack's VLLMRuntime.
    VllmRuntime,
    /// Values of other charts.
    HelmValues,
    /// llm-d values and scenarios.
    LlmD,
    /// Llama-swap.
    LlamaSwap,
    /// LocalAI model files.
    LocalAi,
    /// vLLM `--config`.
    VllmConfig,
    /// SGLang `--config`.
    SglangConfig,
    /// TensorRT-LLM options.
    TrtllmConfig,
    /// tabbyAPI config.yml.
    TabbyConfig,
    /// NVIDIA Dynamo graphs.
    Dynamo,
    /// The NIM operator's objects.
    NimOperator,
    /// KubeAI Model.
    KubeAi,
    /// KAITO.
    Kaito,
    /// AIBrix.
    AiBrix,
    /// OME.
    Ome,
    /// llmaz.
    Llmaz,
    /// LLMKube.
    LlmKube,
    /// Ray Serve LLM.
    RayServe,
    /// SkyPilot tasks.
    SkyPilot,
    /// dstack services.
    Dstack,
    /// Baseten truss.
    Truss,
    /// BentoVLLM arguments.
    BentoVllm,
    /// kustomizations and their patches.
    Kustomize,
}

impl Format {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "oomlint",
            Self::Kubernetes => "k8s",
            Self::LeaderWorkerSet => "lws",
            Self::RoleBasedGroup => "rbg",
            Self::KserveInference => "kserve-isvc",
            Self::KserveRuntime => "kserve-runtime",
            Self::KserveLlm => "kserve-llmisvc",
            Self::Compose => "compose",
            Self::Modelfile => "modelfile",
            Self::HelmRelease => "flux-helmrelease",
            Self::ProductionStack => "helm-production-stack",
            Self::VllmRuntime => "vllmruntime-cr",
            Self::HelmValues => "helm-other",
            Self::LlmD => "llm-d",
            Self::LlamaSwap => "llama-swap",
            Self::LocalAi => "localai",
            Self::VllmConfig => "vllm-config",
            Self::SglangConfig => "sglang-config",
            Self::TrtllmConfig => "trtllm-config",
            Self::TabbyConfig => "tabbyapi-config",
            Self::Dynamo => "dynamo",
            Self::NimOperator => "nim-operator",
            Self::KubeAi => "kubeai",
            Self::Kaito => "kaito",
            Self::AiBrix => "aibrix",
            Self::Ome => "ome",
            Self::Llmaz => "llmaz",
            Self::LlmKube => "llmkube",
            Self::RayServe => "rayserve",
            Self::SkyPilot => "skypilot",
            Self::Dstack => "dstack",
            Self::Truss => "truss",
            Self::BentoVllm => "bentovllm",
            Self::Kustomize => "kustomize",
        }
    }
}

/// One document of a file, and what else the run holds that it may name.
#[derive(Debug, Clone, Copy)]
pub struct Input<'t> {
    /// The document.
    pub root: Node<'t>,
    /// The file it stands in; [`Parsed::path`] tells its name and place.
    pub file: &'t Parsed,
    /// Every other file of the run.
    pub world: &'t World,
}

impl<'t> Input<'t> {
    /// The text that the document stands in.
    pub fn source(&self) -> &'t SourceFile {
        &self.file.source
    }
}

/// What one document declares.
#[derive(Debug, Default)]
pub struct Declared {
    /// Machines added to the catalog for this file.
    pub machines: Vec<Fact<Machine>>,
    /// Deployments in the order of the text.
    pub deployments: Vec<Deployment>,
    /// What could not be read.
    pub findings: Vec<Finding>,
}

/// How one format is known and read.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    /// True for a document in this format. Looks at a few keys and never at the whole document.
    pub recognizes: fn(&Input<'_>) -> bool,
    /// Reads such a document.
    pub read: fn(&Input<'_>) -> Declared,
}

/// Every YAML format, the most particular first.
pub const READERS: &[Reader] = &[
    Reader {
        recognizes: |input| own::recognizes(input.root),
        read: |input| own::read(input.source().id(), input.root),
    },
    Reader {
        recognizes: kubernetes::kustomize::recognizes,
        read: kubernetes::kustomize::read,
    },
    Reader {
        recognizes: kubernetes::kustomize::recognizes_operations,
        read: kubernetes::kustomize::read_operations,
    },
    Reader {
        recognizes: custom::vllm_runtime::recognizes,
        read: custom::vllm_runtime::read,
    },
    Reader {
        recognizes: custom::kubeai::recognizes,
        read: custom::kubeai::read,
    },
    Reader {
        recognizes: custom::kaito::recognizes,
        read: custom::kaito::read,
    },
    Reader {
        recognizes: custom::nim::recognizes,
        read: custom::nim::read,
    },
    Reader {
        recognizes: custom::llmaz::recognizes,
        read: custom::llmaz::read,
    },
    Reader {
        recognizes: custom::llmkube::recognizes,
        read: custom::llmkube::read,
    },
    Reader {
        recognizes: custom::dynamo::recognizes,
        read: custom::dynamo::read,
    },
    Reader {
        recognizes: custom::ray::recognizes,
        read: custom::ray::read,
    },
    Reader {
        recognizes: custom::bento::recognizes,
        read: custom::bento::read,
    },
    Reader {
        recognizes: values::recognizes_release,
        read: values::read_release,
    },
    Reader {
        recognizes: values::recognizes_llm_d,
        read: values::read_llm_d,
    },
    Reader {
        recognizes: compose::recognizes,
        read: compose::read,
    },
    Reader {
        recognizes: llama_swap::recognizes,
        read: llama_swap::read,
    },
    Reader {
        recognizes: skypilot::recognizes,
        read: skypilot::read,
    },
    Reader {
        recognizes: dstack::recognizes,
        read: dstack::read,
    },
    Reader {
        recognizes: truss::recognizes,
        read: truss::read,
    },
    Reader {
        recognizes: local_ai::recognizes,
        read: local_ai::read,
    },
    Reader {
        recognizes: tabby::recognizes,
        read: tabby::read,
    },
    Reader {
        recognizes: option_files::recognizes,
        read: option_files::read,
    },
    Reader {
        recognizes: values::recognizes,
        read: values::read,
    },
    Reader {
        recognizes: kubernetes::recognizes_list,
        read: kubernetes::read_list,
    },
    // Last, for it takes every object that keeps pods.
    Reader {
        recognizes: kubernetes::recognizes,
        read: kubernetes::read,
    },
];

/// Reads a file that is no YAML.
pub type TextReader = fn(&Parsed, &World) -> Declared;

/// The reader of a file that is no YAML, by its path.
pub fn text_reader(path: &str) -> Option<TextReader> {
    let name = path.rsplit('/').next().unwrap_or(path);
    modelfile::is_name(name).then_some(modelfile::read as TextReader)
}

/// The reader of a document, if it is in a format that declares deployments.
pub fn reader_of(input: &Input<'_>) -> Option<&'static Reader> {
    READERS.iter().find(|reader| (reader.recognizes)(input))
}

/// One model served by one engine with its settings, as declared. `None` and empty lists: not declared.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its name; the model's when the file gives none.
    pub name: Fact<String>,
    /// The file that declares it.
    pub file: FileId,
    /// The characters of the whole declaration.
    pub span: Span,
    /// The file's format.
    pub format: Format,
    /// The engine.
    pub engine: Option<Fact<Engine>>,
    /// What serves the model where that goes by another name than [`Engine`]s do: `nim`, `vllm-omni`, `tabbyapi`, ...
    /// With an engine beside it, that engine's sizing applies; without, nothing can be sized.
    pub server: Option<Fact<String>>,
    /// The engine's release, as written.
    pub engine_version: Option<Fact<String>>,
    /// The container image that it runs in, as written.
    pub image: Option<Fact<String>>,
    /// True where the engine's image is somebody's own build, perhaps of a fork with flags of its own.
    pub is_own_build: bool,
    /// Directory, GGUF file or hub name, as written.
    pub model: Option<Fact<String>>,
    /// Other names of the model that the file holds (a download beside the server, the served name, the host side of
    /// a mount): where [`Self::model`] is a path that is not in the tree, the first that is known tells what it is.
    pub model_hints: Vec<Fact<String>>,
    /// Machines to check on, as written. Left empty by formats that declare [`Accelerators`]; the run fills it.
    pub machines: Vec<Fact<String>>,
    /// What accelerators one pod, container or node asks for.
    pub accelerators: Accelerators,
    /// Contexts in tokens.
    pub context: Vec<Fact<u64>>,
    /// Concurrent sequences of that length.
    pub batch: Vec<Fact<u64>>,
    /// KV element types.
    pub kv_cache: Vec<Fact<KvType>>,
    /// Weight format.
    pub quantization: Option<Fact<WeightFormat>>,
    /// The container's environment by name, in order; `None` for a value that the files do not hold. A name stands
    /// at the characters of its value.
    pub environment: Vec<(Fact<String>, Option<Fact<String>>)>,
    /// The engine's own arguments, word by word.
    pub args: Vec<Fact<String>>,
    /// What keys beside the arguments set, by setting id (`replicas`, `nodes`, `shm_bytes`, `host_memory_bytes`, and
    /// those of the engine). The run adds what [`Self::args`] set, which win.
    pub settings: Settings,
    /// What stands around it: the pod or service, by the ids of `catalog/surroundings.yaml`. Empty where the format
    /// tells nothing of it.
    pub surroundings: Settings,
    /// Variables that the platform fills on each machine; see [`Self::settings_on`].
    pub filled: Vec<(String, Filled)>,
    /// Fields whose value is a variable or a placeholder.
    pub unresolved: Vec<String>,
}

impl Deployment {
    /// A deployment of which nothing but its place is known.
    pub fn new(name: Fact<String>, file: FileId, span: Span, format: Format) -> Self {
        Self {
            name,
            file,
            span,
            format,
            engine: None,
            server: None,
            engine_version: None,
            image: None,
            is_own_build: false,
            model: None,
            model_hints: Vec::new(),
            machines: Vec::new(),
            accelerators: Accelerators::default(),
            context: Vec::new(),
            batch: Vec::new(),
            kv_cache: Vec::new(),
            quantization: None,
            environment: Vec::new(),
            args: Vec::new(),
            settings: Settings::default(),
            surroundings: Settings::default(),
            filled: Vec::new(),
            unresolved: Vec::new(),
        }
    }

    /// The name that reports give the engine: the server's own where it has one.
    pub fn engine_name(&self) -> Option<&str> {
        let server = self.server.as_ref().map(|server| server.value.as_str());
        server.or_else(|| self.engine.as_ref().map(|engine| engine.value.name()))
    }

    /// The engine whose sizing applies: the declared one; in our own format mlx where none is declared.
    pub fn sized_as(&self) -> Option<Engine> {
        let declared = self.engine.as_ref().map(|engine| engine.value);
        declared.or((self.format == Format::Own).then_some(Engine::Mlx))
    }

    /// The engine whose sizing applies; mlx where none does.
    pub fn engine_or_default(&self) -> Engine {
        self.sized_as().unwrap_or(Engine::Mlx)
    }

    /// The weight format. Where none is declared, our own format asks for a recommendation; any other file serves
    /// the checkpoint as it is.
    pub fn weight_format(&self) -> WeightFormat {
        let undeclared = match self.format {
            Format::Own => WeightFormat::Auto,
            _ => WeightFormat::AsPublished,
        };
        self.quantization
            .as_ref()
            .map_or(undeclared, |format| format.value.clone())
    }

    /// Names a field that cannot be known from the file, once.
    pub fn mark_unresolved(&mut self, field: &str) {
        if !self.unresolved.iter().any(|known| known == field) {
            self.unresolved.push(field.to_owned());
        }
    }
}

/// The weight format a deployment asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightFormat {
    /// oomlint's recommendation.
    Auto,
    /// What the checkpoint holds.
    AsPublished,
    /// A format by name, lower case: `fp16`, `int8`, `int4`, `fp8`, `q4_k_m`, ...
    Named(String),
}

impl WeightFormat {
    /// The name in manifests and reports.
    pub fn name(&self) -> &str {
        match self {
            Self::Auto => "auto",
            Self::AsPublished => "as-published",
            Self::Named(name) => name,
        }
    }
}
