//! A container as any format declares it, and the deployments that it starts.
//!
//! In: image, commands, environment and accelerators as a format found them. Out: one [`Deployment`] for each engine
//! that the container starts. What a command means is the business of [`super::command`].

use super::command::{self, Environment, Invocation, Launch, Role, Text, Variable, Words};
use super::surroundings::{self, Volume};
use super::{Accelerators, Count, Deployment, Format, Input};
use crate::engine::Settings;
use crate::fact::Fact;
use crate::finding::{Finding, Label, Severity};
use crate::source::Span;

/// A container.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says what its reader could not see"
)]
pub struct Container {
    /// Its name.
    pub name: Fact<String>,
    /// The characters of its declaration.
    pub span: Span,
    /// The image with its tag.
    pub image: Option<Fact<String>>,
    /// What replaces the image's entrypoint.
    pub entrypoint: Option<Words>,
    /// What is appended to the entrypoint.
    pub arguments: Option<Words>,
    /// Its environment.
    pub environment: Environment,
    /// Files that it sees: the path inside, and the text.
    pub files: Vec<(String, Text)>,
    /// The accelerators it asks for.
    pub accelerators: Accelerators,
    /// Its memory limit in bytes.
    pub host_memory_bytes: Option<Fact<u64>>,
    /// Its shared memory in bytes.
    pub shm_bytes: Option<Fact<u64>>,
    /// What is mounted: the path inside, and the name that it has outside.
    pub mounts: Vec<(String, Fact<String>)>,
    /// Fields whose value is a variable or a template.
    pub unresolved: Vec<&'static str>,
    /// What its reader knows of its surroundings; empty where it knows nothing. See [`surroundings`].
    pub surroundings: Settings,
    /// Volumes that it sees.
    pub volumes: Vec<Volume>,
    /// True where it may see volumes that the files do not name.
    pub volumes_open: bool,
    /// True where variables may be set that the files do not name.
    pub environment_open: bool,
    /// True where something beside it may fetch models.
    pub has_downloads: bool,
    /// True where nothing says that it runs as another user than root.
    pub user_is_root: bool,
}

impl Container {
    /// A container of which only its name and place are known.
    pub fn new(name: Fact<String>, span: Span) -> Self {
        Self {
            name,
            span,
            image: None,
            entrypoint: None,
            arguments: None,
            environment: Environment::default(),
            files: Vec::new(),
            accelerators: Accelerators::default(),
            host_memory_bytes: None,
            shm_bytes: None,
            mounts: Vec::new(),
            unresolved: Vec::new(),
            surroundings: Settings::default(),
            volumes: Vec::new(),
            volumes_open: false,
            environment_open: false,
            has_downloads: false,
            user_is_root: true,
        }
    }

    /// Everything that the container starts, engines and others.
    pub fn invocations(&self, input: &Input<'_>) -> Vec<Invocation> {
        let file = |path: &str| {
            let found = self.files.iter().find(|(known, _)| known == path);
            found.map(|(_, text)| text.clone())
        };
        command::invocations(&Launch {
            image: self.image.clone(),
            entrypoint: self.entrypoint.clone(),
            arguments: self.arguments.clone(),
            environment: &self.environment,
            sources: input.world.sources(),
            files: &file,
        })
    }

    /// The deployments that the container starts, and what is wrong with its commands. `name` is that of the object it
    /// belongs to; several engines of one container share it.
    pub fn deployments(&self, input: &Input<'_>, format: Format, name: &Fact<String>) -> Started {
        let mut started = Started::default();
        for invocation in self.invocations(input) {
            started.findings.extend(invocation.problems.iter().map(problem));
            match &invocation.role {
                Role::Serves => {
                    let deployment = self.deployment(&invocation, input, format, name);
                    started.deployments.push(deployment);
                }
                Role::Downloads { model, .. } => started.downloads.push(model.clone()),
            }
        }
        started
    }

    fn deployment(
        &self,
        invocation: &Invocation,
        input: &Input<'_>,
        format: Format,
        name: &Fact<String>,
    ) -> Deployment {
        let mut deployment = Deployment::new(name.clone(), input.source().id(), self.span, format);
        deployment.engine.clone_from(&invocation.engine);
        deployment.server.clone_from(&invocation.server);
        deployment.engine_version.clone_from(&invocation.version);
        deployment.image.clone_from(&self.image);
        deployment.is_own_build = invocation.is_own_build;
        deployment.model.clone_from(&invocation.model);
        deployment.image.clone_from(&self.image);
        deployment.environment = self.environment.iter().map(variable).collect();
        deployment.args.clone_from(&invocation.args);
        deployment.settings = invocation.settings.clone();
        deployment.accelerators = self.accelerators.clone();
        if let Some(visible) = &invocation.visible_devices {
            narrow(&mut deployment.accelerators, visible);
        }
        for (id, bytes) in [
            ("host_memory_bytes", &self.host_memory_bytes),
            ("shm_bytes", &self.shm_bytes),
        ] {
            if let Some(bytes) = bytes {
                deployment
                    .settings
                    .set(id, bytes.clone().map(|bytes| bytes.to_string()));
            }
        }
        let open = invocation.unresolved.iter().map(String::as_str);
        for field in open.chain(self.unresolved.iter().copied()) {
            // Nothing is computed from the name that clients use.
            if field != "served_model_name" {
                deployment.mark_unresolved(field);
            }
        }
        deployment.model_hints = self.hints(invocation);
        deployment.surroundings = surroundings::of(self, invocation);
        deployment
    }

    /// Other names of the model: that of its path outside the container, and the name it is served under.
    fn hints(&self, invocation: &Invocation) -> Vec<Fact<String>> {
        let path = invocation.model.as_ref().map_or("", |model| model.value.as_str());
        let outside = self.mounts.iter().filter_map(|(inside, outside)| {
            let rest = path.strip_prefix(inside.trim_end_matches('/'))?;
            let fits = rest.is_empty() || rest.starts_with('/');
            fits.then(|| outside.clone().map(|outside| format!("{outside}{rest}")))
        });
        let mut hints: Vec<Fact<String>> = outside.collect();
        hints.extend(served_name(invocation));
        hints
    }
}

/// The first name that the model is served under.
fn served_name(invocation: &Invocation) -> Option<Fact<String>> {
    const FLAGS: [&str; 3] = ["--served-model-name", "--served_model_name", "--alias"];
    let mut words = invocation.args.iter();
    while let Some(word) = words.next() {
        match word.value.split_once('=') {
            Some((flag, name)) if FLAGS.contains(&flag) => {
                return Some(word.clone().map(|_| name.to_owned()));
            }
            None if FLAGS.contains(&word.value.as_str()) => return words.next().cloned(),
            _ => {}
        }
    }
    invocation.settings.get("served_model_name").cloned()
}

/// What a container starts.
#[derive(Debug, Default)]
pub struct Started {
    /// Engines.
    pub deployments: Vec<Deployment>,
    /// Models that it downloads.
    pub downloads: Vec<Fact<String>>,
    /// What is wrong with its commands.
    pub findings: Vec<Finding>,
}

/// A variable with its value, where that is known.
fn variable((name, variable): (&str, &Variable)) -> (Fact<String>, Option<Fact<String>>) {
    let value = variable.fact();
    let span = match variable {
        Variable::Known(_) => value.as_ref().and_then(Fact::span),
        Variable::Unknown { span, .. } => *span,
    };
    let name = match span {
        Some(span) => Fact::at(name.to_owned(), span),
        None => Fact::default(name.to_owned(), "the container's environment"),
    };
    (name, value)
}

/// A list of visible devices takes from what the container was given; it never adds.
fn narrow(accelerators: &mut Accelerators, visible: &Fact<u64>) {
    let fewer = accelerators.number().is_none_or(|count| visible.value < count);
    if fewer && !accelerators.is_cpu() {
        accelerators.count = Some(visible.clone().map(Count::Number));
    }
}

/// A command that a shell would not run.
pub fn problem((span, message): &(Span, String)) -> Finding {
    let label = Label {
        span: *span,
        text: "here".to_owned(),
    };
    Finding::at("command-invalid", Severity::Warning, message.clone(), label)
}
