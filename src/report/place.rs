//! Where a span lies, as machine-readable reports say it: path, line, column, byte.

use std::sync::Arc;

use crate::finding::Finding;
use crate::source::{Position, SourceFile, Sources, Span};

/// A span with its file and its two ends worked out.
#[derive(Debug)]
pub(super) struct Place {
    /// The file.
    pub(super) file: Arc<SourceFile>,
    /// The first character.
    pub(super) start: Position,
    /// One past the last character.
    pub(super) end: Position,
}

impl Place {
    /// The place of a span; `None` when its file is not one of the run's.
    pub(super) fn of(sources: &Sources, span: Span) -> Option<Self> {
        let file = sources.get(span.file())?;
        let (start, end) = (file.position(span.start()), file.position(span.end()));
        Some(Self { file, start, end })
    }

    /// The place a finding points at.
    pub(super) fn of_finding(sources: &Sources, finding: &Finding) -> Option<Self> {
        Self::of(sources, finding.primary.as_ref()?.span)
    }

    /// The same place without the blanks and line breaks at its end: a block of YAML reaches to the next key.
    pub(super) fn trimmed(self) -> Self {
        let text = self.file.text().get(self.start.byte..self.end.byte);
        let length = text.map_or(0, |text| text.trim_end().len());
        let end = self.file.position(self.start.byte + length);
        Self { end, ..self }
    }

    /// The path that reports print.
    pub(super) fn path(&self) -> &str {
        self.file.path()
    }
}

/// The file or folder a finding speaks of: that of its place, else the one it names.
pub(super) fn path_of(sources: &Sources, finding: &Finding) -> Option<String> {
    match Place::of_finding(sources, finding) {
        Some(place) => Some(place.path().to_owned()),
        None => finding.path.clone().filter(|path| !path.is_empty()),
    }
}
