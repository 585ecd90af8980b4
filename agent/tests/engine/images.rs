//! Release images on their way from one node to another, with the node's real engine at both ends.

use bytes::Bytes;
use magrathea_agent::streams::{StreamIo, serve};
use magrathea_core::wire::*;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::Node;

/// Serves a stream that is given these frames and nothing after them; how it ended, and the data that it sent.
async fn stream(node: &Node, spec: StreamSpec, frames: Vec<Frame>) -> (Result<i32, ActionError>, Vec<u8>) {
    let (to, mut sent) = mpsc::channel(8);
    let (incoming, from) = mpsc::channel(8);
    let io = StreamIo { to, from, ended: CancellationToken::new() };
    let give = async move {
        for frame in frames {
            if incoming.send(frame).await.is_err() {
                return;
            }
        }
    };
    let collect = async {
        let mut bytes = Vec::new();
        while let Some(Frame::Data(data)) = sent.recv().await {
            bytes.extend_from_slice(&data);
        }
        bytes
    };
    let (outcome, (), bytes) = tokio::join!(serve(&node.agent, spec, io), give, collect);
    (outcome, bytes)
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let data = bytes.chunks(30_000).map(|chunk| Frame::Data(Bytes::copy_from_slice(chunk)));
    data.chain([Frame::Eof]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_was_sent_is_taken_in_under_its_id_and_nothing_else_is() {
    let Some(node) = Node::start("magti", &["static"]).await else { return };
    let word = "a word that stands in one layer alone";
    let built = node.ask(node.build(node.blob(&[("index.html", word)]), &[])).await.unwrap();
    let id = built.image.clone();
    let describe = || node.ask(DescribeImage { id: id.clone() });
    let image = describe().await.unwrap().image.unwrap();
    let all = image.layers.len();
    let send = async |id: &str, skip: usize| {
        stream(&node, StreamSpec::SendImage(SendImage { id: id.to_owned(), skip }), Vec::new()).await
    };
    let take = async |skip: usize, frames: Vec<Frame>| {
        let spec = TakeImage { id: id.clone(), skip, size: image.size };
        stream(&node, StreamSpec::TakeImage(spec), frames).await.0
    };

    // Only a release leaves the node.
    let refused = send(&node.images["static"], 0).await.0.unwrap_err();
    assert!(refused.message.contains("there is no release image"), "{refused:?}");
    let (ended, top) = send(&id, all - 1).await;
    assert_eq!(ended, Ok(0));
    assert!(top.len() < 100_000, "the stack's layers stay: {}", top.len());
    let (ended, whole) = send(&id, 0).await;
    assert_eq!(ended, Ok(0));
    assert!(whole.len() > 10_000_000, "{}", whole.len());

    let forget = async || {
        let pruned = node.ask(Prune { services: Vec::new(), images: vec![id.clone()] }).await.unwrap();
        assert_eq!(pruned.removed, [id.as_str()]);
        assert_eq!(describe().await.unwrap().image, None);
    };
    forget().await;
    let known = node.ask(CountLayers { layers: image.layers.clone() }).await.unwrap().count;
    assert_eq!(known, all - 1, "those of the stack are here");

    // What broke off, was changed or is short of a layer never reaches the engine.
    let place = top.windows(word.len()).position(|window| window == word.as_bytes()).unwrap();
    let mut changed = top.clone();
    changed[place] ^= 1;
    let mut broken = frames(&top);
    broken.pop();
    for (frames, skip, told) in [
        (broken, all - 1, "it broke off"),
        (frames(&changed), all - 1, "is not the one that was asked for"),
        (frames(&top), all - 2, "a layer is missing"),
        (frames(&whole), all - 1, "not asked for"),
        (frames(b"nothing that is a tar"), all - 1, ""),
    ] {
        let refused = take(skip, frames).await.unwrap_err();
        assert!(refused.message.contains(told), "{told}: {refused:?}");
        assert_eq!(describe().await.unwrap().image, None, "{told}");
    }

    // The top on what is here, all of it, and once more: the same image each time.
    assert_eq!(take(all - 1, frames(&top)).await, Ok(0));
    assert_eq!(describe().await.unwrap().image.as_ref(), Some(&image));
    assert_eq!(take(all - 1, frames(&top)).await, Ok(0));
    forget().await;
    assert_eq!(take(0, frames(&whole)).await, Ok(0));
    assert_eq!(describe().await.unwrap().image.as_ref(), Some(&image));
    let left = std::fs::read_dir(node.options.data.join("builds")).unwrap().flatten();
    let left: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("image-")).collect();
    assert!(left.is_empty(), "{left:?}");
    node.end().await;
}
