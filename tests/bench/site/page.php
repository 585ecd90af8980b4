<?php
header('Cache-Control: public, max-age=300');
echo str_repeat("Mostly harmless.\n", 128);
