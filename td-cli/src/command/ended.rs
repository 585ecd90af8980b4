//! Says what ended because somebody or something was taken away.

use magrathea_core::api::Ended;

use crate::context::Context;

/// As in `removed ana; void: 2 keys, 1 session`, and every door that was open.
pub fn tell(context: &Context<'_>, done: &str, ended: &Ended) {
    let counted = [(ended.keys, "key"), (ended.tokens, "token"), (ended.sessions, "session")];
    let void: Vec<String> = counted
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
        .collect();
    let void = if void.is_empty() { String::new() } else { format!("; void: {}", void.join(", ")) };
    context.printer.note(format!("{done}{void}"));
    for door in &ended.doors {
        context.printer.note(format!("  ended: {door}"));
    }
}
