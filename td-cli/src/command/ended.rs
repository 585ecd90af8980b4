//! Says what ended because somebody or something was taken away.

use magrathea_core::api::Ended;
use magrathea_core::units::count;

use crate::context::Context;

/// As in `removed ana; void: 2 keys, 1 session`, and every door that was open.
pub fn tell(context: &Context<'_>, done: &str, ended: &Ended) {
    let counted = [(ended.keys, "key"), (ended.tokens, "token"), (ended.sessions, "session")];
    let void: Vec<String> =
        counted.into_iter().filter(|(number, _)| *number > 0).map(|(number, what)| count(number, what)).collect();
    let void = if void.is_empty() { String::new() } else { format!("; void: {}", void.join(", ")) };
    context.printer.note(format!("{done}{void}"));
    for door in &ended.doors {
        context.printer.note(format!("  ended: {door}"));
    }
}
