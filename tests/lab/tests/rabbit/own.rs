//! A RabbitMQ of a check's own.

use lab::{Check, Lab, Outcome, ensure};

use crate::candidate::{Candidate, next};

pub fn checks() -> Vec<Check> {
    lab::checks![
        it_is_killed_and_comes_back_with_its_messages.limit_secs(180),
        it_is_stopped_paused_and_goes_on.limit_secs(180)
    ]
}

async fn it_is_killed_and_comes_back_with_its_messages(lab: Lab) -> Outcome {
    let rabbit = lab.own_rabbit().await?;
    let url = rabbit.url();
    let candidate = Candidate::new(&rabbit).await?;
    let queue = candidate.queue(&lab).await?;
    candidate.confirms().await?;
    for id in ["1", "2", "3"] {
        candidate.publish(&queue, id).await?.await?;
    }
    let mut consumer = candidate.consume(&queue, 1).await?;
    next(&lab, &mut consumer).await?;
    rabbit.kill().await?;
    ensure!(
        rabbit.direct().await.is_err(),
        "it answers although it was killed"
    );
    ensure!(Candidate::at(&url).await.is_err(), "somebody was let in");
    lab.eventually("the candidate to notice", || async {
        Ok((!candidate.connection.status().connected()).then_some(()))
    })
    .await?;
    rabbit.start().await?;
    ensure!(rabbit.url() == url, "its address has changed");
    let back = lab.eventually("its messages", || async {
        Ok((rabbit.ready(&queue).await? == 3).then_some(()))
    });
    if let Err(failure) = back.await {
        return Err(failure.also(format!("{:?}", rabbit.queue(&queue).await?)));
    }
    let again = Candidate::at(&url).await?;
    let mut consumer = again.consume(&queue, 3).await?;
    for _ in 0..3 {
        next(&lab, &mut consumer).await?;
    }
    Ok(())
}

async fn it_is_stopped_paused_and_goes_on(lab: Lab) -> Outcome {
    let rabbit = lab.own_rabbit().await?;
    let candidate = Candidate::new(&rabbit).await?;
    let queue = candidate.queue(&lab).await?;
    candidate.confirms().await?;
    rabbit.pause().await?;
    let mut confirm = std::pin::pin!(candidate.publish(&queue, "1").await?);
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut confirm).await;
    ensure!(early.is_err(), "it answers although it is paused");
    rabbit.resume().await?;
    confirm.await?;
    rabbit.restart().await?;
    lab.eventually("its message", || async {
        Ok((rabbit.ready(&queue).await? == 1).then_some(()))
    })
    .await?;
    let told = rabbit.proxy().log();
    let closes = told
        .iter()
        .rev()
        .find_map(|frame| frame.closes_connection());
    let closes = closes.map(|close| close.reply_text.to_string());
    ensure!(
        closes
            .as_ref()
            .is_some_and(|text| text.contains("shutdown")),
        "it did not say good-bye: {closes:?}"
    );
    // Stopped twice and started twice: neither is a mistake.
    rabbit.stop().await?;
    rabbit.stop().await?;
    ensure!(
        Candidate::new(&rabbit).await.is_err(),
        "somebody was let in"
    );
    rabbit.start().await?;
    rabbit.start().await?;
    Candidate::new(&rabbit).await?;
    Ok(())
}
