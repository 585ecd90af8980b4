//! A WebSocket, and what answers it.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::site::Site;

/// A page of a Tomcat application that also echoes at `/echo` what it is told, with its version.
pub fn echo(version: u32) -> String {
    r#"<%@ page import="jakarta.websocket.*, jakarta.websocket.server.*" %><%!
public static class Echo extends Endpoint {
    public void onOpen(Session session, EndpointConfig config) {
        session.addMessageHandler(String.class, new MessageHandler.Whole<String>() {
            public void onMessage(String text) {
                try { session.getBasicRemote().sendText("version N: " + text); }
                catch (java.io.IOException gone) { throw new RuntimeException(gone); }
            }
        });
    }
} %><% synchronized (application) { if (application.getAttribute("echo") == null) {
    ServerContainer container = (ServerContainer) application.getAttribute("jakarta.websocket.server.ServerContainer");
    container.addEndpoint(ServerEndpointConfig.Builder.create(Echo.class, "/echo").build());
    application.setAttribute("echo", true);
} } %>version N"#
        .replace("version N", &format!("version {version}"))
}

pub type Socket = WebSocketStream<tokio::net::TcpStream>;

pub async fn open_socket(site: &Site) -> Socket {
    let connection = tokio::net::TcpStream::connect(("127.0.0.1", site.lab.http)).await.unwrap();
    let url = format!("ws://{}:{}/echo", site.host(), site.lab.http);
    tokio_tungstenite::client_async(url, connection).await.unwrap().0
}

/// What comes back for a text; none when the socket was closed, with or without a word.
pub async fn say(socket: &mut Socket, text: &str) -> Option<String> {
    socket.send(Message::text(text)).await.ok()?;
    match tokio::time::timeout(Duration::from_secs(20), socket.next()).await.expect("neither an answer nor an end") {
        Some(Ok(Message::Text(text))) => Some(text.to_string()),
        _ => None,
    }
}
