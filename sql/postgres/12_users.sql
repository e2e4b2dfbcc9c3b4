-- People who work with ARX.

CREATE TYPE user_status_enum AS ENUM ('active', 'suspended', 'closed');
CREATE TABLE users (
    user_id    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email      text NOT NULL CHECK (email ~ '^[^@\s]+@[^@\s]+$' AND length(email) <= 254),
    created_at timestamptz NOT NULL DEFAULT now(),
    last_login timestamptz,
    status     user_status_enum NOT NULL DEFAULT 'active'
);
COMMENT ON TABLE users IS 'people who work with ARX; not readable by arx_reader';
CREATE UNIQUE INDEX users_email_key ON users (lower(email));
