//! tokio-postgres, in this process.

use futures_util::{SinkExt, StreamExt};
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::stage::SHARED;
use crate::support;

#[tokio::test]
async fn tokio_postgres_as_it_is_used() {
    let mut client = support::connect(&SHARED.three).await;
    let statement = client
        .prepare("SELECT id, email, is_active, created_at::text FROM users WHERE id = $1")
        .await
        .unwrap();
    assert_eq!(statement.params(), [Type::INT8]);
    for id in 1..=30_i64 {
        let row = client.query_one(&statement, &[&id]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, String>(1)), (id, format!("user{id}@example.com")));
    }
    let ids: Vec<i64> = vec![5];
    let rows = client.query("SELECT id FROM users WHERE id = ANY($1)", &[&ids]).await.unwrap();
    assert_eq!(rows.len(), 1);

    // Futures polled together are a pipeline over several shards.
    let queries = (1..=20_i64).map(|id| {
        let client = &client;
        async move {
            client.query_one("SELECT id FROM users WHERE id = $1", &[&id]).await.unwrap().get::<_, i64>(0)
        }
    });
    let found = futures_util::future::join_all(queries).await;
    assert_eq!(found, (1..=20).collect::<Vec<i64>>());

    let transaction = client.transaction().await.unwrap();
    transaction.execute("UPDATE users SET name = 'x' WHERE id = $1", &[&9_i64]).await.unwrap();
    let portal = transaction
        .bind("SELECT id FROM job_executions WHERE user_id = $1 ORDER BY id", &[&9_i64])
        .await
        .unwrap();
    let mut seen = 0;
    loop {
        let rows = transaction.query_portal(&portal, 5).await.unwrap();
        seen += rows.len();
        if rows.len() < 5 {
            break;
        }
    }
    assert_eq!(seen, 12);
    transaction.rollback().await.unwrap();
    let row = client.query_one("SELECT name FROM users WHERE id = 9", &[]).await.unwrap();
    assert_ne!(row.get::<_, String>(0), "x");

    let mut sink = std::pin::pin!(client.copy_in("COPY app_settings FROM STDIN").await.unwrap());

    sink.send(bytes::Bytes::from_static(b"copied\tin\n")).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 1);
    let mut out = std::pin::pin!(
        client
            .copy_out("COPY (SELECT value FROM app_settings WHERE key = 'copied') TO STDOUT")
            .await
            .unwrap()
    );

    assert_eq!(out.next().await.unwrap().unwrap(), "in\n");
    assert!(out.next().await.is_none());
    client.batch_execute("DELETE FROM app_settings WHERE key = 'copied'").await.unwrap();

    let cancel = client.cancel_token();
    let (cancelled, ()) =
        tokio::join!(client.batch_execute("SELECT pg_sleep(100) FROM users WHERE id = 1"), async {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            cancel.cancel_query(NoTls).await.unwrap();
        });
    assert_eq!(cancelled.unwrap_err().code().unwrap().code(), "57014");
    client.batch_execute("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn tokio_postgres_is_notified() {
    let (client, mut connection) = tokio_postgres::connect(&SHARED.three, NoTls).await.unwrap();
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let Ok(AsyncMessage::Notification(notification)) = message {
                sender.send(notification.payload().to_owned()).unwrap();
            }
        }
    });
    client.batch_execute("LISTEN drivers").await.unwrap();
    let other = support::connect(&SHARED.three).await;
    other.batch_execute("NOTIFY drivers, 'hello'").await.unwrap();
    assert_eq!(received.recv().await.unwrap(), "hello");
}
