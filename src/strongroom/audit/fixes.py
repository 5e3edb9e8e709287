"""How to mend what was found: a sentence for everybody, and a snippet for each known framework."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Fix:
    """What to do. `snippets` are by framework."""

    text: str
    snippets: dict[str, str] = field(default_factory=dict[str, str])


_END = {
    "Django": "from django.contrib.auth import logout\n\nlogout(request)  # flushes the session",
    "Flask": "# Flask's own session lives in the cookie and cannot be ended.\n"
    "# Keep it on the server (Flask-Session, Strongroom), then:\nsession.clear()",
    "Starlette": "# SessionMiddleware keeps the session in the cookie and cannot end it.\n"
    "# With Strongroom:\nawait session.sign_out()",
    "Express": "req.session.destroy((error) => { res.clearCookie('connect.sid'); "
    "res.redirect('/'); });",
    "PHP": "session_start();\n$_SESSION = [];\nsession_destroy();",
    "Java": "HttpSession session = request.getSession(false);\n"
    "if (session != null) session.invalidate();",
    "Rails": "reset_session",
    "Laravel": "Auth::logout();\n$request->session()->invalidate();\n"
    "$request->session()->regenerateToken();",
    "ASP.NET": "await HttpContext.SignOutAsync();  // with a server-side ITicketStore",
}
_ROTATE = {
    "Django": "from django.contrib.auth import login\n\nlogin(request, user)  # rotates by itself",
    "Flask": "session.clear()\n"
    "session['user'] = user.id  # with a server-side store: regenerate the id",
    "Starlette": "await session.sign_in(user.id)  # Strongroom: always a new id and token",
    "Express": "req.session.regenerate((error) => { req.session.user = user.id; "
    "req.session.save(next); });",
    "PHP": "session_regenerate_id(true);  // and session.use_strict_mode = 1",
    "Java": "request.changeSessionId();",
    "Rails": "reset_session\nsession[:user_id] = user.id",
    "Laravel": "$request->session()->regenerate();",
}
_FLAGS = {
    "Django": "SESSION_COOKIE_SECURE = True\nSESSION_COOKIE_HTTPONLY = True\n"
    "SESSION_COOKIE_SAMESITE = 'Lax'",
    "Flask": "app.config.update(SESSION_COOKIE_SECURE=True, SESSION_COOKIE_HTTPONLY=True,\n"
    "                  SESSION_COOKIE_SAMESITE='Lax')",
    "Starlette": "app.add_middleware(SessionMiddleware, secret_key=key, https_only=True, "
    "same_site='lax')",
    "Express": "session({ cookie: { secure: true, httpOnly: true, sameSite: 'lax' } })",
    "PHP": "session_set_cookie_params(['secure' => true, 'httponly' => true, 'samesite' => "
    "'Lax']);",
    "Java": "<session-config><cookie-config><http-only>true</http-only><secure>true</secure>\n"
    "</cookie-config></session-config>  <!-- SameSite: the container's cookie processor -->",
    "Rails": "config.session_store :cookie_store, secure: true, httponly: true, same_site: :lax",
    "Laravel": "SESSION_SECURE_COOKIE=true\nSESSION_SAME_SITE=lax",
}
_CSRF = {
    "Django": "MIDDLEWARE = [..., 'django.middleware.csrf.CsrfViewMiddleware']  # and {% "
    "csrf_token %}",
    "Flask": "from flask_wtf import CSRFProtect\n\nCSRFProtect(app)",
    "Starlette": "# Strongroom's SessionMiddleware checks every unsafe request by itself.",
    "Express": "// Refuse by Sec-Fetch-Site and Origin first, then a token bound to the session.",
    "Rails": "protect_from_forgery with: :exception",
    "Java": "http.csrf(Customizer.withDefaults());  // Spring Security",
}

FIXES: dict[str, Fix] = {
    "end-on-server": Fix(
        "End the session on the server: delete its record, or mark it as ended, and only then "
        "remove the cookie. A session that lives in the cookie alone cannot be ended.", _END),
    "end-others": Fix(
        "When a password or factor changes, end all other sessions of the account and replace the "
        "present token.",
        {"Django": "from django.contrib.auth import update_session_auth_hash\n\n"
         "update_session_auth_hash(request, user)  # and AuthenticationMiddleware ends the rest"}),
    "rotate": Fix(
        "Make a new session id at every sign-in and whenever privilege grows, end the old one, and "
        "never take up an id that the server did not issue.", _ROTATE),
    "no-url": Fix(
        "Read and write the session token in its cookie only; never put it into addresses, "
        "pages or "
        "other headers.",
        {"PHP": "session.use_only_cookies = 1\nsession.use_trans_sid = 0",
         "Java": "<session-config><tracking-mode>COOKIE</tracking-mode></session-config>"}),
    "cookie-flags": Fix("Set Secure, HttpOnly and SameSite on every cookie that signs in.", _FLAGS),
    "cookie-prefix": Fix(
        "Give the session cookie a name that begins with __Host-, with Path=/, Secure and no "
        "Domain.",
        {"Django": "SESSION_COOKIE_NAME = '__Host-sessionid'",
         "Flask": "app.config['SESSION_COOKIE_NAME'] = '__Host-session'",
         "Express": "session({ name: '__Host-sid', cookie: { secure: true, path: '/' } })",
         "PHP": "session_name('__Host-PHPSESSID');"}),
    "cookie-domain": Fix(
        "Leave Domain out: without it the cookie goes to this host only.",
        {"Django": "SESSION_COOKIE_DOMAIN = None", "Flask": ""
         "app.config['SESSION_COOKIE_DOMAIN'] = None"}),
    "cookie-lifetime": Fix(
        "Let the session cookie end with the browser or with the session; keep 'remember me' in a "
        "cookie of its own.",
        {"Django": "SESSION_EXPIRE_AT_BROWSER_CLOSE = True", "Flask": "session.permanent = False"}),
    "cookie-size": Fix("Keep the data on the server, and only an identifier in the cookie."),
    "cookie-refused": Fix(
        "Set the attributes that browsers ask for: Secure with SameSite=None and with every "
        "prefix; "
        "Path=/ and no Domain with __Host-."),
    "cookie-duplicate": Fix("Write each cookie once for a response, from one place, with one "
    "path."),
    "cookie-sign-out": Fix(
        "Delete the session cookie in the response to the sign-out, with the same name, path and "
        "domain that it was set with."),
    "post-sign-out": Fix(
        "Sign out by POST, with the protection that every other form has; answer GET with a page "
        "that has the button, or with 405.",
        {"Django": "path('logout/', LogoutView.as_view(http_method_names=['post']))"}),
    "visible-sign-out": Fix("Put the sign-out into the frame of every page."),
    "clear-site-data": Fix(
        'Answer the sign-out with Clear-Site-Data: "cache", "cookies", "storage"; leave "cookies" '
        "out where sibling hosts are not yours."),
    "timeouts": Fix(
        "Keep both deadlines in the record on the server and judge them at every request: one that "
        "activity moves, one that nothing moves.",
        {"Django": "SESSION_COOKIE_AGE = 1800\nSESSION_SAVE_EVERY_REQUEST = True  # idle only",
         "PHP": "// Store the start in the session and compare: gc_maxlifetime is no promise."}),
    "csrf": Fix(
        "Refuse unsafe requests that Fetch Metadata or Origin call foreign, and ask for a "
        "token that "
        "is bound to the session.", _CSRF),
    "csrf-origin": Fix(
        "Compare the whole Origin (scheme, host, port) with a list, for equality; refuse 'null', "
        "same-site and cross-site."),
    "csrf-missing": Fix("Without Origin and Fetch Metadata, ask for a token, or refuse."),
    "csrf-get": Fix("Change state on POST, PUT, PATCH and DELETE only; let GET read."),
    "csrf-override": Fix(
        "Take no method from a field, query or header; where that must be, check the "
        "protection for "
        "the overridden method, and never override a GET."),
    "csrf-content-type": Fix(
        "Accept the one content type that the endpoint is for, and check the protection before the "
        "body is read."),
    "csrf-sign-in": Fix(
        "Protect the sign-in form like every other: Fetch Metadata, Origin, and a token bound to a "
        "cookie that visitors get.", _CSRF),
    "websocket": Fix(
        "Compare the handshake's Origin with a list before accepting.",
        {"Django": "AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(...)))  # Channels"}),
    "https": Fix("Serve everything on https, and answer http with a redirect to it and "
    "nothing else."),
    "hsts": Fix(
        "Send Strict-Transport-Security: max-age=31536000; includeSubDomains.",
        {"Django": "SECURE_HSTS_SECONDS = 31536000\nSECURE_HSTS_INCLUDE_SUBDOMAINS = True"}),
    "no-store": Fix(
        "Send Cache-Control: no-store with every page that is for one person, and with every "
        "response that sets the session cookie.",
        {"Django": "from django.views.decorators.cache import never_cache",
         "Flask": "@app.after_request\ndef keep_nothing(response):\n"
         "    response.headers['Cache-Control'] = 'no-store'\n    return response",
         "Express": "app.use((req, res, next) => { res.set('Cache-Control', 'no-store'); "
          "next(); });",
         "PHP": "session_cache_limiter('nocache');"}),
    "cors": Fix(
        "Allow credentials to a fixed list of origins, compared for equality; never reflect the "
        "Origin."),
    "referrer": Fix("Send Referrer-Policy: strict-origin-when-cross-origin, or same-origin."),
    "frame": Fix("Send Content-Security-Policy: frame-ancestors 'none' (or 'self')."),
    "limit": Fix("Limit the sessions of one account, and say what happens at the limit."),
    "session-list": Fix(
        "Show people their active sessions, by a public id that is not the token, with a way "
        "to end "
        "each."),
    "step-up": Fix(
        "Ask for the password again before whatever changes how somebody signs in or moves money, "
        "unless it was given within minutes."),
    "half-open": Fix(
        "Set who is signed in after the last proof, and nothing before it; keep half-done "
        "flows in a "
        "state that no page takes for signed in."),
    "forwarded": Fix(
        "Believe forwarding headers from listed proxies only, and let the proxy remove what "
        "clients "
        "send.",
        {"Django": "USE_X_FORWARDED_HOST = False\nALLOWED_HOSTS = ['app.example']",
         "Flask": "app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_host=0)",
         "Express": "app.set('trust proxy', 'loopback');"}),
    "race": Fix(
        "Write a session only if its record still exists and has not ended: one conditional "
        "command, "
        "not read and write back.",
        {"Express": "session({ resave: false, saveUninitialized: false })  // and a store whose "
         "set()\n"
         "// refuses ids that were destroyed"}),
    "race-rotation": Fix(
        "Let the old token live some seconds beside the new one, and give everybody who raced the "
        "same successor."),
    "random-token": Fix(
        "Take 128 bits or more from the operating system's generator for each token, and nothing "
        "else.",
        {"Django": "# SESSION_ENGINE with a server-side store does it.",
         "Express": "crypto.randomBytes(32).toString('base64url')",
         "PHP": "bin2hex(random_bytes(32))",
         "Java": "new SecureRandom().nextBytes(bytes);"}),
    "opaque-token": Fix(
        "Put nothing but a random identifier into the cookie, compare all of it, and keep what it "
        "means on the server."),
    "signing-key": Fix(
        "Make a new random key now, keep it out of the code, and end all sessions that the old one "
        "signed.",
        {"Django": "python -c 'from django.core.management.utils import get_random_secret_key "
         "as k; print(k())'",
         "Flask": "python -c 'import secrets; print(secrets.token_hex(32))'"}),
    "jwt": Fix(
        "Verify with a fixed list of algorithms, never the one that the token names; refuse "
        "'none'."),
}  # fmt: skip
"""By the topic that a check names."""


def snippets(topic: str, frameworks: Iterable[str]) -> list[tuple[str, str]]:
    """The snippets of this topic for the recognised frameworks, in their order."""
    fix = FIXES[topic]
    return [(each, fix.snippets[each]) for each in frameworks if each in fix.snippets]
