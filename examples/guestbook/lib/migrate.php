<?php
require __DIR__ . '/guestbook.php';
migrate();
echo "the guestbook's table is there\n";
