<?php
// A ticket office in plain PHP with PHP's own sessions: `FAULT=... php -S 127.0.0.1:0 ticket.php`.
// Each fault is one line; without one it is sound.
$fault = getenv('FAULT');
$passwords = ['alice' => 'correct horse battery'];
class Ids extends SessionHandler implements SessionUpdateTimestampHandlerInterface {
    public function create_sid(): string {
        if (getenv('FAULT') === 'counts') {
            $file = fopen(session_save_path() . '/count', 'c+');
            flock($file, LOCK_EX);
            $next = (int) fgets($file) + 1;
            rewind($file);
            fwrite($file, (string) $next);
            fclose($file);
            return sprintf('%032d', 90000 + $next);
        }
        if (getenv('FAULT') === 'md5 of the clock') {
            usleep(2000);
            return md5((string) (int) (microtime(true) * 1000));
        }
        return bin2hex(random_bytes(32));
    }
    // Without this one use_strict_mode does nothing.
    public function validateId(string $id): bool {
        return (bool) preg_match('/^[0-9a-f]+$/', $id) && is_file(session_save_path() . "/sess_$id");
    }
    public function updateTimestamp(string $id, string $data): bool {
        return $this->write($id, $data);
    }
}
ini_set('session.use_strict_mode', $fault === 'no strict mode, no new id' ? '0' : '1');
ini_set('session.use_only_cookies', $fault === 'id in the address' ? '0' : '1');
ini_set('session.use_trans_sid', $fault === 'id in the address' ? '1' : '0');
ini_set('session.cookie_httponly', $fault === 'no httponly' ? '0' : '1');
ini_set('session.cookie_samesite', $fault === 'no samesite' ? '' : 'Lax');
ini_set('session.name', 'PHPSESSID');
header('X-Frame-Options: DENY');
session_set_save_handler(new Ids(), true);
session_start();
if ($fault === 'cached') header_remove('Cache-Control');
$_SESSION['csrf'] ??= bin2hex(random_bytes(16));
$token = $_SESSION['csrf'];
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
$posted = $_SERVER['REQUEST_METHOD'] === 'POST';
$honest = $fault === 'no csrf token' || hash_equals($token, (string) ($_POST['csrf_token'] ?? ''));
$form = fn($action, $fields, $button) => "<form method='post' action='$action'>"
    . "<input type='hidden' name='csrf_token' value='$token'>$fields<button>$button</button></form>";
$go = function ($where) { header("Location: $where", true, 303); exit; };
$leave = function () use ($fault, $go) {
    header('Clear-Site-Data: "cache", "storage"');
    if ($fault === 'forgets the server') {
        setcookie('PHPSESSID', '', 1, '/');
        $go('/sign-in.php');
    }
    $_SESSION = [];
    session_destroy();
    setcookie('PHPSESSID', '', 1, '/');
    $go('/sign-in.php');
};
if ($posted && !$honest) {
    http_response_code(403);
    exit('Refused');
}
if ($path === '/logout.php' && ($posted || $fault === 'logout by get')) $leave();
if ($path === '/sign-in.php') {
    if ($posted && hash_equals($passwords[$_POST['user']] ?? '', $_POST['password'])) {
        if (!str_contains($fault, 'no new id')) session_regenerate_id($fault !== 'keeps the old one');
        $_SESSION['user'] = $_POST['user'];
        $go('/');
    }
    if ($posted) http_response_code(403);
    exit('<title>Sign in</title>' . $form('/sign-in.php',
        '<input name="user"><input name="password" type="password">', 'Sign in'));
}
if ($path !== '/' && $path !== '/seat.php') {
    http_response_code(404);
    exit('Nothing here');
}
if (empty($_SESSION['user'])) $go('/sign-in.php');
$file = session_save_path() . '/seat';
if ($path === '/seat.php' && $posted) {
    file_put_contents($file, $_POST['seat']);
    $go('/');
}
$seat = htmlspecialchars((string) @file_get_contents($file));
echo '<title>Tickets</title><p>', $_SESSION['user'], ", seat $seat</p>",
    $form('/seat.php', '<input name="seat">', 'Save'), $form('/logout.php', '', 'Sign out'),
    '<a href="/">Home</a>';
