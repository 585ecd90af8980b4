//! Fills the templates. A template that names a value it was not given is an error, never an empty place.

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use crate::LayerError;

/// The text of the template with the values in it. Values are checked for the target syntax before they come here.
pub fn render(name: &'static str, template: &'static str, values: Value) -> Result<String, LayerError> {
    let fill = || {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        let mut syntax = SyntaxConfig::builder();
        environment.set_syntax(syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build()?);
        environment.render_named_str(name, template, values)
    };
    fill().map_err(|error| LayerError::new(name, format!("the template cannot be filled: {error:#}")))
}
