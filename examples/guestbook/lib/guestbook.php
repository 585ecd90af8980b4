<?php
// Database and cache of the guestbook, from the environment that the platform gives every instance.

function database(): PDO
{
    static $db = null;
    if ($db === null) {
        $dsn = sprintf('mysql:host=%s;port=%s;dbname=%s;charset=utf8mb4', getenv('DB_HOST'), getenv('DB_PORT'), getenv('DB_NAME'));
        $db = new PDO($dsn, getenv('DB_USER'), getenv('DB_PASSWORD'), [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
    }
    return $db;
}

function cache(): Memcached
{
    static $cache = null;
    if ($cache === null) {
        $cache = new Memcached();
        $cache->addServer(getenv('MEMCACHED_HOST'), (int) getenv('MEMCACHED_PORT'));
    }
    return $cache;
}

/** Run by the release hook: once per deploy, before any visitor meets the new code. */
function migrate(): void
{
    database()->exec(
        'CREATE TABLE IF NOT EXISTS entries (
            id INT AUTO_INCREMENT PRIMARY KEY,
            name VARCHAR(80) NOT NULL,
            message VARCHAR(1000) NOT NULL,
            picture VARCHAR(80) NULL,
            written TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
        )'
    );
}

function entries(): array
{
    return database()->query('SELECT * FROM entries ORDER BY id DESC LIMIT 50')->fetchAll(PDO::FETCH_ASSOC);
}

/** Stores an uploaded picture under a name of our own; null when there is none. */
function store_picture(array $file): ?string
{
    if (($file['error'] ?? UPLOAD_ERR_NO_FILE) === UPLOAD_ERR_NO_FILE) {
        return null;
    }
    $endings = ['image/png' => 'png', 'image/jpeg' => 'jpg', 'image/gif' => 'gif', 'image/webp' => 'webp'];
    $ending = $file['error'] === UPLOAD_ERR_OK ? $endings[mime_content_type($file['tmp_name'])] ?? null : null;
    if ($ending === null) {
        throw new RuntimeException('Only PNG, JPEG, GIF and WebP pictures up to 8 MB can be left here.');
    }
    $name = bin2hex(random_bytes(8)) . '.' . $ending;
    move_uploaded_file($file['tmp_name'], __DIR__ . '/../web/uploads/' . $name);
    return $name;
}

function sign(string $name, string $message, ?string $picture): void
{
    $statement = database()->prepare('INSERT INTO entries (name, message, picture) VALUES (?, ?, ?)');
    $statement->execute([mb_substr($name, 0, 80), mb_substr($message, 0, 1000), $picture]);
}
