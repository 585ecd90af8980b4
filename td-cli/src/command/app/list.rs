//! `td app list`.

use magrathea_core::api::AppInfo;

use crate::client::Query;
use crate::command::instances;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::table;

pub async fn run(context: &Context<'_>) -> Result<Exit, Failure> {
    let answer = context.client()?.get(&["apps"], &Query::new()).await?;
    context.show(answer, |printer, apps: Vec<AppInfo>| {
        if apps.is_empty() {
            printer.note("no apps yet; deploy one: td app deploy");
            return;
        }
        let is_narrowed = context.globals.label.is_some() || context.globals.cluster.is_some();
        let rows = apps.iter().flat_map(|app| {
            let here = app.instances.iter().filter(|i| context.means(&i.label, &i.cluster));
            let nowhere = (app.instances.is_empty() && !is_narrowed).then(|| {
                let dash = || "-".to_owned();
                [app.name.clone(), dash(), dash(), "empty".into(), dash(), dash()]
            });
            here.map(instances::row).chain(nowhere)
        });
        table::print(printer, instances::HEADER, rows);
    })
}
