//! A release on trial, and a gateway that is killed around it.

use magrathea_core::api::{DeployEventKind, DeployStatus, SourceInfo};
use magrathea_core::names::DeployId;

use super::world::{Hang, World};
use crate::engine;

const APP: &str = "app_layer: {stack: php}\n";
const ROUTE: &str = "Ensure routing/route";

fn trial() -> SourceInfo {
    SourceInfo { canary: Some(20), ..SourceInfo::default() }
}

#[tokio::test]
async fn a_gateway_killed_before_or_after_it_led_visitors_goes_on_with_the_trial() {
    for hang in [Hang::Before, Hang::After] {
        let mut world = World::new().await;
        world.deploy(APP).await;
        world.held().hang = Some((ROUTE.to_owned(), hang));
        let deploy = world.submit(APP, trial()).await.unwrap();
        world.reached.notified().await;
        world.restart().await;
        world.settles("the share is led", |held| held.canary == Some((2, 20)) && held.serving == Some(1)).await;
        let id = DeployId(deploy.id);
        engine::promote_trial(world.state(), &world.test.admin, id).await.unwrap();
        assert_eq!(world.finished(id).await.status, DeployStatus::Succeeded);
        world.settles("it serves all", |held| (held.serving, held.canary) == (Some(2), None)).await;
        let told = |event: &DeployEventKind| matches!(event, DeployEventKind::Canary { share: 20, .. });
        assert!(world.events(id).await.iter().any(|event| told(&event.event)));
    }
}
