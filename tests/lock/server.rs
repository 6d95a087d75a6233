//! A model hub on this computer, as far as `oomlint lock` needs one: repositories with files whose weights are
//! zeros made while they are sent, and a list of things to do wrong.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A file: its first bytes, and how many it has in all.
#[derive(Clone)]
pub(crate) struct File {
    head: Vec<u8>,
    size: u64,
}

impl File {
    pub(crate) fn text(text: impl Into<Vec<u8>>) -> Self {
        let head = text.into();
        let size = head.len() as u64;
        Self { head, size }
    }

    /// The first bytes of a file that goes on with zeros.
    pub(crate) fn beginning(head: Vec<u8>, size: u64) -> Self {
        Self { head, size }
    }

    /// A safetensors file of BF16 tensors. Its data are never stored.
    pub(crate) fn safetensors(tensors: &[(&str, &[u64])]) -> Self {
        let mut end = 0;
        let mut entries = Vec::new();
        for (name, shape) in tensors {
            let start = end;
            end += shape.iter().product::<u64>() * 2;
            entries.push(format!(
                r#""{name}":{{"dtype":"BF16","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
            ));
        }
        let json = format!("{{{}}}", entries.join(","));
        let mut head = (json.len() as u64).to_le_bytes().to_vec();
        head.extend(json.as_bytes());
        let size = head.len() as u64 + end;
        Self { head, size }
    }

    fn byte(&self, at: u64) -> u8 {
        usize::try_from(at)
            .ok()
            .and_then(|at| self.head.get(at).copied())
            .unwrap_or(0)
    }
}

/// A repository at a commit.
#[derive(Clone)]
pub(crate) struct Repository {
    pub(crate) commit: String,
    pub(crate) files: BTreeMap<String, File>,
}

/// What to do instead of the right thing. Each is used up by one request, unless it is [`Fault::Always`].
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Always(Box<Fault>),
    Status(u16, &'static str),
    /// The right headers, then only so many bytes of the body.
    Truncate(usize),
    HangUp,
    /// The whole file from its first byte, whatever was asked for.
    IgnoreRange,
    /// As before, without a length.
    IgnoreRangeUnbounded,
    ContentRange(&'static str),
    NoContentRange,
    Body(&'static str),
    Redirect(String),
    Compressed,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

#[derive(Default)]
struct State {
    repositories: Mutex<BTreeMap<String, Repository>>,
    faults: Mutex<Vec<(String, VecDeque<Fault>)>>,
    requests: Mutex<Vec<Request>>,
    /// The token without which nothing is given out.
    token: Mutex<Option<String>>,
    sent: AtomicU64,
    /// Requests being worked on, and the most there ever were at once.
    busy: AtomicU64,
    busiest: AtomicU64,
}

/// The hub; it serves until the test process ends.
#[derive(Clone)]
pub(crate) struct Server {
    state: Arc<State>,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State::default());
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&served);
                std::thread::spawn(move || drop(serve(&stream, &state)));
            }
        });
        Self { state, address }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Publishes a repository; its commit is the digit, forty times.
    pub(crate) fn publish(&self, name: &str, digit: char, files: &[(&str, File)]) {
        let repository = Repository {
            commit: String::from(digit).repeat(40),
            files: files
                .iter()
                .map(|(name, file)| ((*name).to_owned(), file.clone()))
                .collect(),
        };
        self.state
            .repositories
            .lock()
            .unwrap()
            .insert(name.to_owned(), repository);
    }

    /// The next requests whose path contains `part` go wrong in this order.
    pub(crate) fn fail(&self, part: &str, faults: impl IntoIterator<Item = Fault>) {
        let faults = faults.into_iter().collect();
        self.state.faults.lock().unwrap().push((part.to_owned(), faults));
    }

    /// From now on all goes well.
    pub(crate) fn recover(&self) {
        self.state.faults.lock().unwrap().clear();
    }

    pub(crate) fn require_token(&self, token: &str) {
        *self.state.token.lock().unwrap() = Some(token.to_owned());
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Paths asked for since the last call of this, sorted, since threads ask in no order.
    pub(crate) fn take_paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = std::mem::take(&mut *self.state.requests.lock().unwrap())
            .into_iter()
            .map(|request| request.path)
            .collect();
        paths.sort();
        paths
    }

    /// The most requests that were worked on at once.
    pub(crate) fn busiest(&self) -> u64 {
        self.state.busiest.load(Ordering::SeqCst)
    }

    /// Bytes of bodies handed to the system so far.
    pub(crate) fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }
}

fn serve(stream: &TcpStream, state: &State) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let request = Request { path, headers };
    let busy = state.busy.fetch_add(1, Ordering::SeqCst) + 1;
    state.busiest.fetch_max(busy, Ordering::SeqCst);
    state.requests.lock().unwrap().push(request.clone());
    let fault = next_fault(state, &request.path);
    // Before the answer: once it has that, the client may rightly ask the next thing.
    state.busy.fetch_sub(1, Ordering::SeqCst);
    answer(stream, state, &request, fault.as_ref())
}

fn next_fault(state: &State, path: &str) -> Option<Fault> {
    let mut faults = state.faults.lock().unwrap();
    let (_, queue) = faults
        .iter_mut()
        .find(|(part, queue)| path.contains(part.as_str()) && !queue.is_empty())?;
    match queue.front() {
        Some(Fault::Always(fault)) => Some((**fault).clone()),
        _ => queue.pop_front(),
    }
}

fn answer(
    stream: &TcpStream,
    state: &State,
    request: &Request,
    fault: Option<&Fault>,
) -> std::io::Result<()> {
    let plain = |status: u16, extra: &str, body: &str| {
        let bytes = body.len();
        let head =
            format!("HTTP/1.1 {status} x\r\nContent-Length: {bytes}\r\nConnection: close\r\n{extra}\r\n");
        send(stream, state, &head, body.as_bytes())
    };
    match fault {
        Some(Fault::HangUp) => return Ok(()),
        // An unfriendly server writes what it got into its answer.
        Some(Fault::Status(status, extra)) => return plain(*status, extra, &format!("{request:?}")),
        Some(Fault::Redirect(to)) => return plain(302, &format!("Location: {to}\r\n"), "moved"),
        Some(Fault::Body(body)) => return plain(200, "", body),
        _ => {}
    }
    let required = state.token.lock().unwrap().clone();
    let given = request
        .headers
        .get("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    if required.is_some() && required.as_deref() != given {
        let status = if given.is_none() { 401 } else { 403 };
        return plain(status, "", "no");
    }
    match found(state, &request.path) {
        None => plain(404, "", "Entry not found"),
        Some(file) => send_file(stream, state, request, &file, fault),
    }
}

/// What lies at a path: the description of a repository, or a file of it.
fn found(state: &State, path: &str) -> Option<File> {
    let repositories = state.repositories.lock().unwrap();
    let path = path
        .trim_start_matches("/mirror")
        .trim_start_matches("/elsewhere");
    if let Some(rest) = path.strip_prefix("/api/models/") {
        let (name, revision) = rest.split_once("/revision/")?;
        let repository = repositories.get(name)?;
        let revision = revision.strip_suffix("?blobs=true")?;
        let known = revision == "main" || revision == "v1" || revision == repository.commit;
        return known.then(|| File::text(describe(name, repository)));
    }
    let (name, rest) = path.strip_prefix('/')?.split_once("/resolve/")?;
    let repository = repositories.get(name)?;
    let file = rest.strip_prefix(&repository.commit)?.strip_prefix('/')?;
    repository.files.get(file).cloned()
}

fn describe(name: &str, repository: &Repository) -> String {
    let mut files = String::new();
    for (name, file) in &repository.files {
        let comma = if files.is_empty() { "" } else { "," };
        write!(
            files,
            r#"{comma}{{"rfilename":"{name}","size":{},"blobId":"0"}}"#,
            file.size
        )
        .unwrap();
    }
    let commit = &repository.commit;
    format!(r#"{{"id":"{name}","sha":"{commit}","gated":false,"lastModified":"now","siblings":[{files}]}}"#)
}

fn send_file(
    stream: &TcpStream,
    state: &State,
    request: &Request,
    file: &File,
    fault: Option<&Fault>,
) -> std::io::Result<()> {
    let ignore = matches!(fault, Some(Fault::IgnoreRange | Fault::IgnoreRangeUnbounded));
    let asked = request.headers.get("range").filter(|_| !ignore);
    let asked = asked.and_then(|value| value.strip_prefix("bytes=")?.split_once('-'));
    let (mut status, mut start, mut end) = (200, 0, file.size);
    let mut extra = String::new();
    if let Some((first, last)) = asked {
        (start, end) = (
            first.parse().unwrap(),
            last.parse::<u64>().unwrap().saturating_add(1).min(file.size),
        );
        if start >= file.size {
            return send(stream, state, "HTTP/1.1 416 x\r\nContent-Length: 0\r\n\r\n", b"");
        }
        status = 206;
        extra = match fault {
            Some(Fault::ContentRange(value)) => format!("Content-Range: {value}\r\n"),
            Some(Fault::NoContentRange) => String::new(),
            _ => format!("Content-Range: bytes {start}-{}/{}\r\n", end - 1, file.size),
        };
    }
    if matches!(fault, Some(Fault::Compressed)) {
        extra.push_str("Content-Encoding: gzip\r\n");
    }
    if !matches!(fault, Some(Fault::IgnoreRangeUnbounded)) {
        write!(extra, "Content-Length: {}\r\n", end - start).unwrap();
    }
    if let Some(Fault::Truncate(bytes)) = fault {
        end = end.min(start + *bytes as u64);
    }
    send(
        stream,
        state,
        &format!("HTTP/1.1 {status} x\r\nConnection: close\r\n{extra}\r\n"),
        b"",
    )?;
    while start < end {
        let stop = end.min(start + (64 << 10));
        let block: Vec<u8> = (start..stop).map(|at| file.byte(at)).collect();
        send(stream, state, "", &block)?;
        start = stop;
    }
    Ok(())
}

fn send(mut stream: &TcpStream, state: &State, head: &str, body: &[u8]) -> std::io::Result<()> {
    // Counted first: the client may be done before this thread goes on.
    state.sent.fetch_add(body.len() as u64, Ordering::SeqCst);
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    stream.flush()
}
