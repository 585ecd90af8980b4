<?php
// The health check: a replica is ready when it reaches its database.
require __DIR__ . '/../lib/guestbook.php';
database()->query('SELECT 1');
header('Content-Type: text/plain');
header('Cache-Control: no-store');
echo "ok\n";
