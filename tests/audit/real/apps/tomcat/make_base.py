"""Makes the folder that Tomcat runs from: one connector, two users, its own example application."""

import shutil
import sys
from pathlib import Path

port, alice, mallory = sys.argv[1:]
for name in ("conf", "temp", "logs", "work", "webapps"):
    Path("base", name).mkdir(parents=True)
shutil.copytree("/usr/share/tomcat10-examples/examples", "base/webapps/examples")
Path("base/conf/tomcat-users.xml").write_text(
    f"""<tomcat-users>
  <role rolename="tomcat"/>
  <user username="alice" password="{alice}" roles="tomcat"/>
  <user username="mallory" password="{mallory}" roles="tomcat"/>
</tomcat-users>
""",
    "utf-8",
)
Path("base/conf/web.xml").write_text(
    """<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.0">
  <servlet>
    <servlet-name>default</servlet-name>
    <servlet-class>org.apache.catalina.servlets.DefaultServlet</servlet-class>
  </servlet>
  <servlet>
    <servlet-name>jsp</servlet-name>
    <servlet-class>org.apache.jasper.servlet.JspServlet</servlet-class>
  </servlet>
  <servlet-mapping>
    <servlet-name>default</servlet-name><url-pattern>/</url-pattern>
  </servlet-mapping>
  <servlet-mapping>
    <servlet-name>jsp</servlet-name><url-pattern>*.jsp</url-pattern>
  </servlet-mapping>
  <session-config><session-timeout>30</session-timeout></session-config>
  <welcome-file-list><welcome-file>index.html</welcome-file></welcome-file-list>
</web-app>
""",
    "utf-8",
)
Path("base/conf/server.xml").write_text(
    f"""<Server port="-1">
  <GlobalNamingResources>
    <Resource name="UserDatabase" auth="Container" type="org.apache.catalina.UserDatabase"
      factory="org.apache.catalina.users.MemoryUserDatabaseFactory"
      pathname="conf/tomcat-users.xml"/>
  </GlobalNamingResources>
  <Service name="Catalina">
    <Connector port="{port}" address="127.0.0.1" protocol="HTTP/1.1"/>
    <Engine name="Catalina" defaultHost="127.0.0.1">
      <Realm className="org.apache.catalina.realm.UserDatabaseRealm" resourceName="UserDatabase"/>
      <Host name="127.0.0.1" appBase="webapps"/>
    </Engine>
  </Service>
</Server>
""",
    "utf-8",
)
