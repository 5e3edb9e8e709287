<?php
// DokuWiki as Debian installs it looks for its configuration in /etc; here it is in this folder.
define('DOKU_MAIN_CONF', __DIR__ . '/conf/');
define('DOKU_CONF', __DIR__ . '/conf/');
