<?php
require __DIR__ . '/../lib/guestbook.php';

$error = null;
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $name = trim($_POST['name'] ?? '');
    $message = trim($_POST['message'] ?? '');
    try {
        if ($name === '' || $message === '') {
            throw new RuntimeException('A name and a message, please.');
        }
        sign($name, $message, store_picture($_FILES['picture'] ?? []));
        setcookie('guest', '1', ['expires' => time() + 3600, 'path' => '/', 'samesite' => 'Lax']);
        header('Location: /', true, 303);
        exit;
    } catch (RuntimeException $refused) {
        http_response_code(422);
        $error = $refused->getMessage();
    }
}

cache()->add('visits', 0);
$visits = cache()->increment('visits');
$h = fn(?string $text): string => htmlspecialchars((string) $text, ENT_QUOTES);
?>
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Guestbook</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
  form, article { border: 1px solid #ddd; border-radius: 8px; padding: 1rem; margin: 1rem 0; }
  input, textarea, button { display: block; width: 100%; box-sizing: border-box; margin: .3rem 0; padding: .5rem; font: inherit; }
  img { max-width: 100%; } small { color: #777; } .error { color: #b00; }
</style>
<h1>Guestbook</h1>
<p>Welcome to Magrathea. This page came from release <?= $h(getenv('MAGRATHEA_RELEASE')) ?> of
   <?= $h(getenv('MAGRATHEA_APP')) ?> on cluster <?= $h(getenv('MAGRATHEA_CLUSTER')) ?>;
   it was made <?= (int) $visits ?> times, for you at <?= $h($_SERVER['REMOTE_ADDR']) ?>.</p>
<form method="post" enctype="multipart/form-data">
  <?php if ($error !== null): ?><p class="error"><?= $h($error) ?></p><?php endif ?>
  <input name="name" placeholder="Your name" maxlength="80" required>
  <textarea name="message" placeholder="Your message" maxlength="1000" rows="3" required></textarea>
  <input name="picture" type="file" accept="image/*">
  <button>Sign</button>
</form>
<?php foreach (entries() as $entry): ?>
<article>
  <strong><?= $h($entry['name']) ?></strong> <small><?= $h($entry['written']) ?></small>
  <p><?= nl2br($h($entry['message'])) ?></p>
  <?php if ($entry['picture']): ?><img src="/uploads/<?= $h($entry['picture']) ?>" alt=""><?php endif ?>
</article>
<?php endforeach ?>
</html>
