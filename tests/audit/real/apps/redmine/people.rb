# Two people who may do everything, and need not change their passwords first.
%w[alice mallory].zip(ENV.fetch("PASSWORDS").split).each do |name, password|
  person = User.new(firstname: name.capitalize, lastname: "Person", mail: "#{name}@site.example", language: "en")
  person.login = name
  person.password = person.password_confirmation = password
  person.admin = true
  person.save!
end
