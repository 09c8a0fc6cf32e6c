//! Log lines: `span{field=1}: message field=2`. Level and target are for whoever takes them.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The longest line that is kept, in bytes.
const MAX_LINE_BYTES: usize = 2048;

/// Hands every event on as one line.
pub(crate) struct Lines<F>(F);

impl<F: Fn(&'static Metadata<'static>, String) + 'static> Lines<F> {
    pub(crate) fn new(take: F) -> Self {
        Self(take)
    }
}

/// A span's fields, printed once.
struct SpanFields(String);

impl<S, F> Layer<S> for Lines<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    F: Fn(&'static Metadata<'static>, String) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().replace(SpanFields(fields.0)); // another one of us prints the same
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let fields = extensions.get::<SpanFields>().map_or("", |fields| fields.0.as_str());
            line.print(format_args!("{}{{{fields}}}: ", span.name()));
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        line.0 += &fields.0;
        if line.0.len() > MAX_LINE_BYTES {
            let end = (0..=MAX_LINE_BYTES).rev().find(|&end| line.0.is_char_boundary(end));
            line.0.truncate(end.unwrap_or(0));
            line.0.push('…');
        }
        (self.0)(event.metadata(), line.0);
    }
}

/// Fields in the order in which they come, with the message as it is.
#[derive(Default)]
struct Fields(String);

impl Fields {
    fn print(&mut self, text: fmt::Arguments<'_>) {
        let _never_fails = self.0.write_fmt(text);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let space = if self.0.is_empty() { "" } else { " " };
        match field.name() {
            "message" => self.print(format_args!("{space}{value:?}")),
            name => self.print(format_args!("{space}{name}={value:?}")),
        }
    }
}
