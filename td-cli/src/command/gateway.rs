//! `td gateway`: where its doors are.

use magrathea_core::api::GatewayInfo;

use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print the SSH host key alone, as a line for ~/.ssh/known_hosts
    #[arg(long)]
    known_hosts: bool,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let answer = context.client()?.get(&["gateway"], &Query::new()).await?;
    context.show(answer, |printer, gateway: GatewayInfo| {
        if arguments.known_hosts {
            return printer.data(gateway.ssh.known_hosts_line());
        }
        printer.data(format!("gateway {}", gateway.version));
        printer.data(format!("git and SSH at {}", gateway.ssh.url("git")));
        printer.data(format!("SSH host key {}", gateway.ssh.host_key));
        printer.note("\ntd gateway --known-hosts >> ~/.ssh/known_hosts makes ssh and git trust it");
    })
}
