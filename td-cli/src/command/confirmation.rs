//! What destroys data is never done without the names typed or said of what goes: a plain yes is typed too soon.

use crate::context::Context;
use crate::exit::Failure;
use crate::settings;

#[derive(Debug, clap::Args)]
pub struct Confirmation {
    /// Do not ask: the names of what is destroyed, of each protected label too, with commas between
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    confirm: Vec<String>,
}

impl Confirmation {
    /// Has each name repeated, on the terminal or as an option. `what` is said before the first question.
    pub fn ask(&self, context: &Context<'_>, what: &[String], names: &[&str]) -> Result<(), Failure> {
        let refused = |said: &str| Failure::usage(format!("{said}: nothing was destroyed"));
        if !self.confirm.is_empty() {
            return match names.iter().find(|name| !self.confirm.iter().any(|said| said == *name)) {
                None => Ok(()),
                Some(missing) => Err(refused(&format!("--confirm does not name {missing}"))
                    .hint(format!("what is destroyed: --confirm {}", names.join(",")))),
            };
        }
        if !settings::can_ask() {
            return Err(refused("nobody can be asked here").hint(format!("say it: --confirm {}", names.join(","))));
        }
        what.iter().for_each(|line| context.printer.message(line));
        for (n, name) in names.iter().enumerate() {
            let question = match n {
                0 => format!("Type {name} to go on:"),
                _ => format!("{name} is protected. Type its name, too:"),
            };
            context.printer.question(&question);
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            if line.trim() != *name {
                return Err(refused(&format!("{:?} is not {name:?}", line.trim())));
            }
        }
        Ok(())
    }
}
